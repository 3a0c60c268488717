//! Pictures of recordings: the cover that is attached, the picture of the page, or a frame of the film.
//!
//! Pictures are foreign input as much as recordings are. They are decoded by libav, one packet each and without a demuxer,
//! and never more than so many pixels.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use ffmpeg_next::{Packet, codec, media};
use fourmi_kinds::{MediaNote, PictureSizes, Thumbnails};
use fourmi_model::{Failure, NextStep};
use serde::{Deserialize, Serialize};

use crate::{
    Control, failure, files,
    libav::{self, Cover, EncodedPicture, Input, Picture, PictureDecoder, PictureFormat, log},
};

/// Larger picture files are refused.
const MAX_BYTES: u64 = 32 * 1024 * 1024;

/// As large as this a picture is attached as it is.
const MAX_COVER_BYTES: usize = 1024 * 1024;

/// The longest side of a cover that had to be encoded.
const COVER_SIDE: u32 = 1280;

/// Where in a film to look, by shares of its length, until there is something to be seen.
const PLACES: [f64; 4] = [0.1, 0.25, 0.5, 0.75];

/// So many packets may pass until a picture comes out of them.
const MAX_PACKETS: u32 = 600;

/// Two pictures that were made, one large and one small.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pictures {
    /// `cover.<extension>` in the folder that was given.
    pub cover: PathBuf,
    /// Its width and height.
    pub cover_size: (u32, u32),
    /// `thumbnail.<extension>` in the same folder.
    pub small: PathBuf,
    /// Its width and height.
    pub small_size: (u32, u32),
    /// The ending that their names should have, without a dot.
    pub extension: String,
    /// Their media type.
    pub media_type: String,
}

/// What came of looking for pictures.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// None if there is no picture, or none that can be read.
    pub pictures: Option<Pictures>,
    /// `picture_unreadable`.
    pub notes: Vec<MediaNote>,
}

/// Makes pictures of what is at `path`: a picture file (JPEG, PNG or WebP), the cover that is attached to a recording, or else a
/// frame of its film that is not black. What cannot be read is a note, and no reason to fail.
///
/// # Errors
/// `cancelled`, `disk_full`, `storage_failed`, `out_of_memory`.
pub fn thumbnails(path: &Path, form: Thumbnails, output_dir: &Path, control: &dyn Control) -> Result<Found, Failure> {
    let (format, sizes) = match form {
        Thumbnails::Off => return Ok(Found::default()),
        Thumbnails::Jpg(sizes) => (PictureFormat::Jpeg, sizes),
        Thumbnails::Webp(sizes) => (PictureFormat::Webp, sizes),
    };
    let _log = log::Capture::start();
    let mut notes = Vec::new();
    let made = look(path, &mut notes, control).and_then(|picture| match picture {
        Some(picture) => save(&picture, format, sizes, output_dir).map(Some),
        None => Ok(None),
    });
    let pictures = forgiven(made, &mut notes, control)?.flatten();
    Ok(Found { pictures, notes })
}

/// The picture to attach to an audio file: `picture` is one of the page, `recording` may hold a film.
///
/// # Errors
/// As in [`thumbnails`].
pub(crate) fn to_attach(
    picture: Option<&Path>,
    recording: &Path,
    notes: &mut Vec<MediaNote>,
    control: &dyn Control,
) -> Result<Option<Cover>, Failure> {
    if let Some(picture) = picture {
        let cover = forgiven(read_cover(picture), notes, control)?;
        if cover.is_some() {
            return Ok(cover);
        }
    }
    let frame = Input::open(recording, control).and_then(|mut input| frame_of(&mut input, control));
    let cover = frame.and_then(|frame| frame.as_ref().map(encoded_cover).transpose());
    Ok(forgiven(cover, &mut Vec::new(), control)?.flatten())
}

/// What is wrong with a picture is a note; what is wrong with the machine is not.
fn forgiven<T>(
    result: Result<T, Failure>,
    notes: &mut Vec<MediaNote>,
    control: &dyn Control,
) -> Result<Option<T>, Failure> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(_) if control.cancelled() => Err(Failure::cancelled()),
        Err(failure) if failure.next != NextStep::GiveUp => Err(failure),
        Err(failure) => {
            notes.push(MediaNote { code: "picture_unreadable".to_owned(), message: failure.message });
            Ok(None)
        }
    }
}

fn look(path: &Path, notes: &mut Vec<MediaNote>, control: &dyn Control) -> Result<Option<Picture>, Failure> {
    if let Some(codec) = codec_of(path)? {
        return decode_file(path, codec).map(Some);
    }
    let mut input = Input::open(path, control)?;
    if let Some(cover) = input.cover() {
        let picture = cover.decode().map_err(undecodable);
        if let Some(picture) = forgiven(picture, notes, control)? {
            return Ok(Some(picture));
        }
    }
    frame_of(&mut input, control)
}

/// How a picture file is encoded, by its first bytes; none if it is no picture.
fn codec_of(path: &Path) -> Result<Option<codec::Id>, Failure> {
    let mut start = Vec::new();
    let opened = File::open(path).and_then(|file| file.take(16).read_to_end(&mut start));
    opened.map_err(|error| failure::storage(&error, "reading the picture"))?;
    Ok(match start.as_slice() {
        [0xFF, 0xD8, 0xFF, ..] => Some(codec::Id::MJPEG),
        [0x89, b'P', b'N', b'G', ..] => Some(codec::Id::PNG),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(codec::Id::WEBP),
        _ => None,
    })
}

fn read_file(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes));
    read.map_err(|error| failure::storage(&error, "reading the picture"))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(unreadable(&format!("it is larger than {} MiB", MAX_BYTES >> 20)));
    }
    Ok(bytes)
}

fn decode_file(path: &Path, codec: codec::Id) -> Result<Picture, Failure> {
    let packet = Packet::copy(&read_file(path)?);
    PictureDecoder::of(codec).and_then(|decoder| decoder.decode_one(&packet)).map_err(undecodable)
}

/// The picture of a file as a cover: as it is, if players know its sort and it is small.
fn read_cover(path: &Path) -> Result<Cover, Failure> {
    let codec = codec_of(path)?.ok_or_else(|| unreadable("it is neither JPEG nor PNG nor WebP"))?;
    let picture = decode_file(path, codec)?;
    let bytes = read_file(path)?;
    if codec == codec::Id::WEBP || bytes.len() > MAX_COVER_BYTES {
        return encoded_cover(&picture);
    }
    let (width, height) = picture.stored_size();
    Ok(Cover::of(codec, &EncodedPicture { bytes, width, height }))
}

fn encoded_cover(picture: &Picture) -> Result<Cover, Failure> {
    let encoded = picture.encode(PictureFormat::Jpeg, COVER_SIDE).map_err(unencodable)?;
    Ok(Cover::of(codec::Id::MJPEG, &encoded))
}

/// A frame of the film that is not black, if there is one; otherwise any.
fn frame_of(input: &mut Input<'_>, control: &dyn Control) -> Result<Option<Picture>, Failure> {
    let streams = input.streams();
    let film = streams.iter().find(|stream| stream.medium == media::Type::Video && !stream.cover);
    let Some(film) = film.map(|stream| stream.index) else { return Ok(None) };
    input.only(film);
    let length = input.duration().any().unwrap_or(0);
    let mut dark = None;
    for place in PLACES {
        input.seek_before((length as f64 * place) as i64);
        let frame = next_frame(input, film, control)?;
        match frame {
            Some(frame) if !frame.is_dark() => return Ok(Some(frame)),
            frame => dark = dark.or(frame),
        }
        if length == 0 {
            break;
        }
    }
    Ok(dark)
}

fn next_frame(input: &mut Input<'_>, film: usize, control: &dyn Control) -> Result<Option<Picture>, Failure> {
    let mut decoder = PictureDecoder::open(input.parameters(film)).map_err(undecodable)?;
    for _ in 0..MAX_PACKETS {
        if control.cancelled() {
            return Err(Failure::cancelled());
        }
        match input.read()? {
            // Bad data: what follows may be fine.
            libav::Read::Packet(packet) if packet.stream() == film => {
                if let Ok(Some(frame)) = decoder.decode(Some(&packet)) {
                    return Ok(Some(frame));
                }
            }
            libav::Read::End => return Ok(decoder.decode(None).ok().flatten()),
            libav::Read::Packet(_) | libav::Read::Damaged => {}
        }
    }
    Ok(None)
}

fn save(picture: &Picture, format: PictureFormat, sizes: PictureSizes, output_dir: &Path) -> Result<Pictures, Failure> {
    let (extension, media_type) = match format {
        PictureFormat::Jpeg => ("jpg", "image/jpeg"),
        PictureFormat::Webp => ("webp", "image/webp"),
    };
    let write = |name: &str, longest: u32| {
        let encoded = picture.encode(format, longest).map_err(unencodable)?;
        let file = files::temporary_in(output_dir)?;
        std::fs::write(&file, &encoded.bytes).map_err(|error| failure::storage(&error, "writing the picture"))?;
        Ok((file, output_dir.join(format!("{name}.{extension}")), (encoded.width, encoded.height)))
    };
    let (large_file, cover, cover_size) = write("cover", sizes.cover)?;
    let (small_file, small, small_size) = write("thumbnail", sizes.small)?;
    files::name(large_file, cover.clone())?;
    files::name(small_file, small.clone()).inspect_err(|_| drop(std::fs::remove_file(&cover)))?;
    let (extension, media_type) = (extension.to_owned(), media_type.to_owned());
    Ok(Pictures { cover, cover_size, small, small_size, extension, media_type })
}

fn undecodable(error: ffmpeg_next::Error) -> Failure {
    if failure::is_out_of_memory(error) {
        return failure::libav(error, "reading the picture");
    }
    unreadable(&format!("it is damaged, or has more than {} million pixels", libav::MAX_PIXELS / 1_000_000))
}

fn unencodable(error: ffmpeg_next::Error) -> Failure {
    failure::libav(error, "writing the picture")
}

fn unreadable(why: &str) -> Failure {
    Failure::permanent("picture_unreadable", format!("the picture cannot be used: {why}"))
}
