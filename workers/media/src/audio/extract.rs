//! The story of an extraction.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use fourmi_kinds::{AudioCodec, AudioExtract, AudioExtracted, Chapter, MediaNote};
use fourmi_model::{Artifact, Failure};

use super::{
    copy,
    encode::{self, Encode, Encoded},
    formats::{self, Plan},
    labels::{self, Labels},
    packets::{Packets, Tally},
    track::{Part, Track},
};
use crate::{
    Control, failure,
    libav::{Input, Output, log},
    progress::{Pace, Place},
};

/// An audio file that was made. What is said of it was read from the file itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Extraction {
    /// Where it is: `audio.<extension>` in the folder that was given.
    pub path: PathBuf,
    /// The ending that its name should have, without a dot.
    pub extension: &'static str,
    /// Its media type.
    pub media_type: &'static str,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its length in milliseconds.
    pub duration_ms: u64,
    /// How it is encoded.
    pub codec: AudioCodec,
    /// Its tags, by their common names.
    pub tags: BTreeMap<String, String>,
    /// Its chapters.
    pub chapters: Vec<Chapter>,
    /// What is worth knowing: `damaged_packets`, `time_stamps_repaired`, `trim_end_clipped`, `bitrate_limited`,
    /// `chapters_dropped`, `tags_dropped`, `cover_dropped`.
    pub notes: Vec<MediaNote>,
}

impl Extraction {
    /// The result of the job, once the file is stored.
    pub fn into_extracted(self, file: Artifact) -> AudioExtracted {
        let Self { duration_ms, codec, tags, chapters, notes, .. } = self;
        AudioExtracted {
            files: vec![file],
            duration_ms,
            codec,
            tags,
            chapters,
            loudness: None,
            source: None,
            reused: false,
            timings_ms: BTreeMap::new(),
            notes,
        }
    }
}

/// Writes the sound of the recording at `input` to a file in `output_dir`, as `request` says; its `source` is not looked at.
///
/// The packets are taken over as they are if they are what was asked for; otherwise the sound is decoded and encoded. A part is
/// exact to the sample if it is encoded, and to the packet if it is copied. The file appears under its name when it is whole;
/// whatever goes wrong, nothing is left behind. Works on the calling thread until it is done, for as long as hours.
///
/// A recording that ends before the end that it promises (by more than a second and more than a thousandth) is refused, not
/// shortened: whoever gets half a session without a word will notice too late. Formats that promise nothing (broadcast
/// streams, live recordings, MP3 and AAC without a header) are taken as they are.
///
/// # Errors
/// `source_gone`, `storage_failed`, `empty_file`, `not_media`, `no_audio_stream`, `drm`, `codec_unsupported`,
/// `truncated_media`, `corrupt_media`, `zero_duration`, `duration_exceeded`, `trim_out_of_range`, `disk_full`,
/// `out_of_memory`, `cancelled`, `ffmpeg_failed`.
pub fn extract(
    input: &Path,
    output_dir: &Path,
    request: &AudioExtract,
    control: &dyn Control,
) -> Result<Extraction, Failure> {
    let _log = log::Capture::start();
    // libav has many words for being interrupted.
    make(input, output_dir, request, control)
        .map_err(|failure| if control.cancelled() { Failure::cancelled() } else { failure })
}

fn make(input: &Path, output_dir: &Path, request: &AudioExtract, control: &dyn Control) -> Result<Extraction, Failure> {
    let mut source = Input::open(input, control).map_err(|failure| failure.in_stage("probe"))?;
    let track = Track::choose(&source).map_err(|failure| failure.in_stage("probe"))?;
    let part = Part::of(request.trim, &track)?;
    let mut notes = Vec::new();
    let plan = formats::plan(request, &track, part, &mut notes)?;
    let part = plan.part(part, &track);
    let labels = Labels::read(&source, &track.stream, track.alone).cut(part, part.promised_end(&track));

    let file = temporary_in(output_dir)?;
    let stage = if plan.encoding.is_some() { "encode" } else { "copy" };
    let job = Job { track: &track, part, plan: &plan, labels: &labels, control, bytes: size_of(input) };
    let tally =
        job.write(&mut source, &file, &mut Pace::start(control, stage)).map_err(|failure| match failure.stage {
            None if failure.code != "cancelled" => failure.in_stage(stage),
            _ => failure,
        })?;
    notes.extend(damage(&tally));
    if part.end > track.promised_end && track.promised_end.is_some() {
        notes
            .push(note("trim_end_clipped", "the part to keep ended after the end of the recording, and was cut there"));
    }
    drop(source);

    let mut extraction = describe(&file, &plan, control)?;
    notes.extend(losses(&labels, &extraction, plan.container.covers));
    extraction.notes = notes;
    extraction.path = output_dir.join(format!("audio.{}", plan.container.extension));
    file.persist(&extraction.path).map_err(|error| failure::storage(&error.error, "naming the file"))?;
    Ok(extraction)
}

/// What is to be done, and with what.
struct Job<'a> {
    track: &'a Track,
    part: Part,
    plan: &'a Plan,
    labels: &'a Labels,
    control: &'a dyn Control,
    /// The size of the recording's file.
    bytes: u64,
}

impl Job<'_> {
    fn write(&self, source: &mut Input<'_>, file: &Path, pace: &mut Pace<'_>) -> Result<Tally, Failure> {
        let mut output = Output::create(file, self.plan.container.muxer, self.control).map_err(preparing)?;
        let parameters = source.parameters(self.track.stream.index);
        let sure = source.is_sure();
        let (tally, is_empty) = match &self.plan.encoding {
            None => {
                copy::declare(&mut output, parameters, &self.track.stream)?;
                self.start(&mut output)?;
                let mut packets = Packets::of(source, self.track, self.part, copy::MARGIN, self.bytes);
                let tally = copy::run(&mut packets, &mut output, &self.track.stream, !self.part.is_whole(), pace)?;
                (tally, output.is_empty())
            }
            Some(encoding) => {
                let mut encode = Encode::prepare(parameters, self.track, self.part, encoding, &mut output)?;
                self.start(encode.output())?;
                let mut packets = Packets::of(source, self.track, self.part, encode::MARGIN, self.bytes);
                let Encoded { tally, samples } = encode.run(&mut packets, pace)?;
                (tally, samples == 0)
            }
        };
        self.judge(&tally, is_empty, sure)?;
        let output_bytes = output.position();
        output.finish().map_err(|error| failure::libav(error, "finishing the file"))?;
        let media_ms = u64::try_from((tally.reached - self.part.start) / 1_000).unwrap_or(0);
        pace.done(&Place { fraction: 1.0, media_ms, output_bytes });
        Ok(tally)
    }

    /// Writes what comes before the sound.
    fn start(&self, output: &mut Output<'_>) -> Result<(), Failure> {
        let container = &self.plan.container;
        let (tags, chapters) = self.labels.for_container(container);
        output.label(&tags, chapters).map_err(preparing)?;
        if let Some(cover) = self.labels.cover.as_ref().filter(|_| container.covers) {
            output.add_cover(cover).map_err(preparing)?;
        }
        output.start(container.options).map_err(preparing)
    }

    /// Whether what was read is what was promised.
    fn judge(&self, tally: &Tally, is_empty: bool, sure: bool) -> Result<(), Failure> {
        let hopeless = tally.damaged.saturating_mul(3) > tally.packets.max(1);
        if hopeless {
            let why = format!("{} errors in the {} packets of its sound", tally.damaged, tally.packets);
            return Err(if sure { failure::corrupt(&why) } else { failure::not_media(&why) });
        }
        if let Some(missing) = self.missing(tally) {
            return Err(failure::truncated(&missing));
        }
        if is_empty {
            return Err(if self.part.start > 0 {
                self.part.out_of_range(self.track)
            } else {
                failure::zero_duration()
            });
        }
        Ok(())
    }

    /// What is missing at the end.
    fn missing(&self, tally: &Tally) -> Option<String> {
        let promised = self.track.promised_end?.min(self.part.end.unwrap_or(i64::MAX));
        let tolerance = (promised / 1_000).max(1_000_000);
        // Who had to repair the clock cannot say what time it is.
        let is_missing = tally.jumps == 0 && tally.reached < promised - tolerance;
        let ms = |time: i64| failure::clock(u64::try_from(time / 1_000).unwrap_or(0));
        is_missing.then(|| format!("its sound ends at {} instead of {}", ms(tally.reached), ms(promised)))
    }
}

/// Reads from the file what is in it.
fn describe(file: &Path, plan: &Plan, control: &dyn Control) -> Result<Extraction, Failure> {
    let made = Input::open(file, control)?;
    let track = Track::choose(&made)?;
    let bytes = size_of(file);
    let duration_ms = u64::try_from(track.likely_end.unwrap_or(0) / 1_000).unwrap_or(0);
    let stream = &track.stream;
    Ok(Extraction {
        path: file.to_owned(),
        extension: plan.container.extension,
        media_type: plan.container.media_type,
        bytes,
        duration_ms,
        codec: AudioCodec {
            name: stream.codec_name.clone(),
            copied: plan.encoding.is_none(),
            sample_rate: stream.sample_rate.unwrap_or(0),
            channels: stream.channels.unwrap_or(0),
            bit_rate: bytes.saturating_mul(8_000) / duration_ms.max(1),
        },
        tags: labels::tags(&made, stream, true),
        chapters: made.chapters(),
        notes: Vec::new(),
    })
}

fn damage(tally: &Tally) -> Vec<MediaNote> {
    let mut notes = Vec::new();
    if tally.damaged > 0 {
        let message = format!(
            "{} errors in the {} packets of the sound; what they hit was left out",
            tally.damaged, tally.packets
        );
        notes.push(note("damaged_packets", &message));
    }
    if tally.jumps > 0 {
        let message = format!("the clock of the recording jumped {} times; what follows was joined", tally.jumps);
        notes.push(note("time_stamps_repaired", &message));
    }
    notes
}

/// What the recording had and the file has not.
fn losses(labels: &Labels, made: &Extraction, covers: bool) -> Vec<MediaNote> {
    let mut notes = Vec::new();
    if made.chapters.len() < labels.chapters.len() {
        let message = format!(
            "{} of {} chapters have no place in the file",
            labels.chapters.len() - made.chapters.len(),
            labels.chapters.len()
        );
        notes.push(note("chapters_dropped", &message));
    }
    let lost: Vec<_> = labels.tags.keys().filter(|name| !made.tags.contains_key(*name)).map(String::as_str).collect();
    if !lost.is_empty() {
        notes.push(note("tags_dropped", &format!("these tags have no place in the file: {}", lost.join(", "))));
    }
    if labels.cover.is_some() && !covers {
        notes.push(note("cover_dropped", "the cover picture has no place in the file"));
    }
    notes
}

fn note(code: &str, message: &str) -> MediaNote {
    MediaNote { code: code.to_owned(), message: message.to_owned() }
}

fn temporary_in(folder: &Path) -> Result<tempfile::TempPath, Failure> {
    tempfile::Builder::new()
        .prefix(".audio-")
        .suffix(".part")
        .tempfile_in(folder)
        .map(tempfile::NamedTempFile::into_temp_path)
        .map_err(|error| failure::storage(&error, "creating the file"))
}

fn size_of(file: &Path) -> u64 {
    std::fs::metadata(file).map_or(0, |metadata| metadata.len())
}

fn preparing(error: ffmpeg_next::Error) -> Failure {
    match error {
        // Muxers check a codec's header before they take it over.
        ffmpeg_next::Error::InvalidData => failure::corrupt("the header of its sound makes no sense"),
        error => failure::libav(error, "preparing the file"),
    }
}
