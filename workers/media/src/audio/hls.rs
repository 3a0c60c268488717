//! Sound for HTTP Live Streaming: of each bit rate one file of fragmented MP4, whose segments a playlist names by their bytes.
//!
//! See RFC 8216, sections 4.3.2.2 (`EXT-X-BYTERANGE`), 4.3.2.5 (`EXT-X-MAP`) and 4.3.4.2 (`EXT-X-STREAM-INF`), and ISO/IEC
//! 14496-12 for the boxes.

use std::{
    fmt::Write as _,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use ffmpeg_next::frame;
use fourmi_kinds::{AudioExtract, AudioFormat, Hls, Source};
use fourmi_model::Failure;
use serde::{Deserialize, Serialize};
use tempfile::TempPath;

use super::{
    decode::{self, Decode},
    formats::{self, Encoding},
    recording::Recording,
    shape::Sink,
    track::Part,
    write::Writer,
};
use crate::{
    Control, failure, files,
    libav::{Output, Tags, log},
    progress::{Pace, Place},
};

/// AAC-LC; see RFC 6381, section 3.3.
const CODECS: &str = "mp4a.40.2";

/// Fragments where they are asked for, the header first and whole, and no index after them.
const OPTIONS: &[(&str, &str)] = &[("movflags", "+frag_custom+delay_moov+default_base_moof+skip_trailer")];

/// The sound at one bit rate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variant {
    /// `hls-<kbps>.m4a` in the folder that was given.
    pub media: PathBuf,
    /// Its media type.
    pub media_type: String,
    /// Kilobits a second, as asked for.
    pub kbps: u32,
    /// The most bits a second of any segment.
    pub bandwidth: u64,
    /// The mean bits a second.
    pub average_bandwidth: u64,
    /// The codec, as RFC 6381 writes it.
    pub codecs: String,
    /// Bytes of the header, at the start of the file.
    header_bytes: u64,
    /// The segments, one after the other behind the header.
    segments: Vec<Segment>,
}

/// A part of the file that can be played after the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Segment {
    bytes: u64,
    duration_us: u64,
}

impl Variant {
    /// The playlist of its segments; `media_uri` is where the file can be had.
    pub fn playlist(&self, media_uri: &str) -> String {
        let longest = self.segments.iter().map(|segment| segment.duration_us.div_ceil(1_000_000)).max().unwrap_or(1);
        let header = self.header_bytes;
        let mut text = format!(
            "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:{longest}\n#EXT-X-PLAYLIST-TYPE:VOD\n\
            #EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-MAP:URI=\"{media_uri}\",BYTERANGE=\"{header}@0\"\n"
        );
        let mut offset = header;
        for Segment { bytes, duration_us } in &self.segments {
            let seconds = *duration_us as f64 / 1e6;
            // Writing to a string cannot fail.
            let _ = writeln!(text, "#EXTINF:{seconds:.6},\n#EXT-X-BYTERANGE:{bytes}@{offset}\n{media_uri}");
            offset += bytes;
        }
        text.push_str("#EXT-X-ENDLIST\n");
        text
    }
}

/// The playlist from which a player chooses; of each variant where its playlist can be had.
pub fn master_playlist(variants: &[(&str, &Variant)]) -> String {
    let mut text = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-INDEPENDENT-SEGMENTS\n".to_owned();
    for (uri, variant) in variants {
        let Variant { bandwidth, average_bandwidth, codecs, .. } = variant;
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "#EXT-X-STREAM-INF:BANDWIDTH={bandwidth},AVERAGE-BANDWIDTH={average_bandwidth},CODECS=\"{codecs}\"\n{uri}"
        );
    }
    text
}

/// Encodes the audio file at `audio` once for each bit rate. It is decoded once, and loudness stays as it is. Where the URIs of
/// the files are known, [`Variant::playlist`] and [`master_playlist`] name them. Tells how far it is as the stage `segment`.
///
/// # Errors
/// Those of [`super::extract`]. Nothing is left behind.
pub fn hls(audio: &Path, hls: &Hls, output_dir: &Path, control: &dyn Control) -> Result<Vec<Variant>, Failure> {
    let _log = log::Capture::start();
    encode_all(audio, hls, output_dir, control).map_err(|failure| {
        // libav has many words for being interrupted.
        if control.cancelled() { Failure::cancelled() } else { failure::in_stage(failure, "segment") }
    })
}

fn encode_all(audio: &Path, hls: &Hls, output_dir: &Path, control: &dyn Control) -> Result<Vec<Variant>, Failure> {
    let mut recording = Recording::open(audio, None, control)?;
    let steps: Vec<Encoding> = hls.bitrates_kbps.iter().map(|&kbps| encoding(&recording, kbps)).collect();
    let Some(form) = steps.first().map(Encoding::form) else { return Ok(Vec::new()) };
    let temporary: Vec<TempPath> = steps.iter().map(|_| files::temporary_in(output_dir)).collect::<Result<_, _>>()?;
    let mut outputs = Vec::new();
    for file in &temporary {
        outputs.push(Output::create(file, "mp4", control).map_err(preparing)?);
    }

    let mut ladder = Ladder { writers: Vec::new() };
    for (output, step) in outputs.iter_mut().zip(&steps) {
        let length = i64::from(hls.segment_seconds) * i64::from(form.sample_rate);
        let mut writer = Writer::open(step, output, None)?.in_fragments(length);
        writer.output().label(&Tags::new(), &[]).map_err(preparing)?;
        writer.output().start(OPTIONS).map_err(preparing)?;
        ladder.writers.push(writer);
    }
    let parameters = recording.input.parameters(recording.track.stream.index);
    let decode = Decode::prepare(parameters, &recording.track, Part::WHOLE, form)?;
    let mut pace = Pace::start(control, "segment");
    let mut packets = recording.packets(Part::WHOLE, decode::MARGIN);
    decode.run(&mut packets, &mut ladder, &mut pace, Ladder::written)?;
    let media_ms = u64::try_from(packets.tally.reached / 1_000).unwrap_or(0);

    let mut durations = Vec::new();
    for writer in ladder.writers {
        let (samples, fragments) = writer.end_fragments()?;
        if samples == 0 {
            return Err(failure::zero_duration());
        }
        durations.push(fragments);
    }
    for output in outputs {
        output.finish().map_err(|error| failure::libav(error, "finishing the file"))?;
    }
    let mut variants = Vec::new();
    for ((file, durations), &kbps) in temporary.iter().zip(&durations).zip(&hls.bitrates_kbps) {
        let media = output_dir.join(format!("hls-{kbps}.m4a"));
        variants.push(describe(file, durations, form.sample_rate, kbps, media)?);
    }
    name_all(temporary, &variants)?;
    let output_bytes = variants.iter().map(|variant| files::size_of(&variant.media)).sum();
    pace.done(&Place { fraction: 1.0, media_ms, output_bytes });
    Ok(variants)
}

/// AAC at that bit rate, in the source's own channels (no more than two) and sample rate.
fn encoding(recording: &Recording<'_>, kbps: u32) -> Encoding {
    // What is asked of the encoder is the same as for a file; nobody looks at the source.
    let request = AudioExtract {
        format: AudioFormat::M4a,
        bitrate_kbps: Some(kbps),
        ..AudioExtract::of(Source::Url(String::new()))
    };
    formats::encoding(&request, &recording.track.stream, &mut Vec::new())
}

/// The same sound for every bit rate.
struct Ladder<'o, 'c> {
    writers: Vec<Writer<'o, 'c>>,
}

impl Ladder<'_, '_> {
    fn written(&self) -> u64 {
        self.writers.iter().map(Writer::written_bytes).sum()
    }
}

impl Sink for Ladder<'_, '_> {
    fn take(&mut self, frame: &mut frame::Audio) -> Result<(), Failure> {
        let Some((last, others)) = self.writers.split_last_mut() else { return Ok(()) };
        for writer in others {
            writer.take(&mut frame.clone())?;
        }
        last.take(frame)
    }
}

/// Reads from the file where its segments are; `durations` are theirs, in samples.
fn describe(file: &Path, durations: &[u64], rate: u32, kbps: u32, media: PathBuf) -> Result<Variant, Failure> {
    let (header_bytes, sizes) = fragments(file).map_err(|error| failure::storage(&error, "reading the segments"))?;
    if sizes.len() != durations.len() {
        let message = format!("{} segments were written, and {} are there", durations.len(), sizes.len());
        return Err(failure::internal(&message));
    }
    let duration_us = |samples: u64| samples * 1_000_000 / u64::from(rate.max(1));
    let segments: Vec<_> = sizes
        .iter()
        .zip(durations)
        .map(|(&bytes, &samples)| Segment { bytes, duration_us: duration_us(samples) })
        .collect();
    let rate = |bytes: u64, duration_us: u64| (bytes * 8_000_000).div_ceil(duration_us.max(1));
    // A segment of a few samples says nothing.
    let shortest = segments.iter().map(|segment| segment.duration_us).max().unwrap_or(0) / 2;
    let telling = segments.iter().filter(|segment| segment.duration_us >= shortest);
    let average = rate(sizes.iter().sum(), durations.iter().map(|&samples| duration_us(samples)).sum());
    Ok(Variant {
        media,
        media_type: "audio/mp4".to_owned(),
        kbps,
        bandwidth: telling.map(|segment| rate(segment.bytes, segment.duration_us)).fold(average, u64::max),
        average_bandwidth: average,
        codecs: CODECS.to_owned(),
        header_bytes,
        segments,
    })
}

/// The bytes of the header, and of each fragment: from one `moof` to the next.
fn fragments(path: &Path) -> io::Result<(u64, Vec<u64>)> {
    let mut file = File::open(path)?;
    let end = file.metadata()?.len();
    let (mut at, mut starts) = (0, Vec::new());
    while at < end {
        file.seek(SeekFrom::Start(at))?;
        let mut head = [0; 8];
        file.read_exact(&mut head)?;
        let [a, b, c, d, name @ ..] = head;
        if name == *b"moof" {
            starts.push(at);
        }
        at += match u32::from_be_bytes([a, b, c, d]) {
            1 => {
                let mut size = [0; 8];
                file.read_exact(&mut size)?;
                u64::from_be_bytes(size)
            }
            size => u64::from(size),
        }
        .max(8);
    }
    let header = starts.first().copied().unwrap_or(end);
    let ends = starts.iter().skip(1).copied().chain([end]);
    Ok((header, starts.iter().zip(ends).map(|(start, end)| end - start).collect()))
}

/// Gives all files their names, or none.
fn name_all(temporary: Vec<TempPath>, variants: &[Variant]) -> Result<(), Failure> {
    for (file, variant) in temporary.into_iter().zip(variants) {
        files::name(file, variant.media.clone()).inspect_err(|_| {
            for variant in variants {
                let _ = std::fs::remove_file(&variant.media);
            }
        })?;
    }
    Ok(())
}

fn preparing(error: ffmpeg_next::Error) -> Failure {
    failure::libav(error, "preparing the file")
}
