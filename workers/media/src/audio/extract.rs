//! The story of an extraction.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use fourmi_kinds::{AudioCodec, AudioExtract, AudioExtracted, Chapter, LoudnessReport, MediaNote, Waveform};
use fourmi_model::{Artifact, Failure};
use serde::{Deserialize, Serialize};
use tempfile::TempPath;

use super::{
    analyse::{self, Analysis, analyse},
    copy, decode,
    encode::{Encode, Encoded, Recipe},
    formats::{self, Covers, Plan},
    judge::{self, Reading, note},
    labels::{self, Extras, Labels},
    level::Levelling,
    packets::Tally,
    recording::Recording,
    track::{Part, Track},
};
use crate::{
    Control, failure, files,
    libav::{Input, Output, log},
    pictures,
    progress::{Pace, Place},
    waveform::{self, Collector},
};

/// An audio file that was made. What is said of it was read from the file itself. It may be kept, as long as its files are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Extraction {
    /// Where it is: `audio.<extension>` in the folder that was given.
    pub path: PathBuf,
    /// The ending that its name should have, without a dot.
    pub extension: String,
    /// Its media type.
    pub media_type: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its length in milliseconds.
    pub duration_ms: u64,
    /// How it is encoded.
    pub codec: AudioCodec,
    /// Its tags, by their common names.
    pub tags: BTreeMap<String, String>,
    /// The chapters in its times, as they stand in the file; if it holds none, as they would.
    pub chapters: Vec<Chapter>,
    /// What was measured of the loudness, and done about it.
    pub loudness: Option<LoudnessReport>,
    /// The waveform that was asked for (`waveform.json` or `waveform.dat` in the same folder). None if the packets were copied:
    /// see [`crate::audio::waveform`].
    pub waveform: Option<PathBuf>,
    /// What is worth knowing: `damaged_packets`, `time_stamps_repaired`, `trim_end_clipped`, `all_silent`, `loudness_missed`,
    /// `bitrate_limited`, `chapters_dropped`, `tags_dropped`, `cover_dropped`, `picture_unreadable`.
    pub notes: Vec<MediaNote>,
}

impl Extraction {
    /// The result of the job, once the file is stored.
    pub fn into_extracted(self, file: Artifact) -> AudioExtracted {
        let Self { duration_ms, codec, tags, chapters, loudness, notes, .. } = self;
        AudioExtracted {
            files: vec![file],
            duration_ms,
            codec,
            tags,
            chapters,
            loudness,
            source: None,
            reused: false,
            timings_ms: BTreeMap::new(),
            notes,
        }
    }
}

/// Writes the sound of the recording at `input` to a file in `output_dir`, as `request` says; its `source` is not looked at.
/// `analysis` is what [`analyse`] gave; it is made up for if it is needed and not given. Tells how far it is as the stage
/// `transcode`.
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
    extras: &Extras<'_>,
    analysis: Option<&Analysis>,
    control: &dyn Control,
) -> Result<Extraction, Failure> {
    let made_up = if analysis.is_none() { analyse(input, request, extras, control)? } else { None };
    let _log = log::Capture::start();
    // libav has many words for being interrupted.
    make(input, output_dir, request, extras, analysis.or(made_up.as_ref()), control)
        .map_err(|failure| if control.cancelled() { Failure::cancelled() } else { failure })
}

fn make(
    input: &Path,
    output_dir: &Path,
    request: &AudioExtract,
    extras: &Extras<'_>,
    analysis: Option<&Analysis>,
    control: &dyn Control,
) -> Result<Extraction, Failure> {
    let mut recording = Recording::open(input, request.max_duration_ms, control)?;
    let (labels, asked) = recording.asked(request, extras)?;
    let part = analysis.and_then(Analysis::part).unwrap_or(asked);
    let levelling = analyse::levelling(request, analysis);
    let is_changed = levelling.is_some_and(Levelling::is_heard);
    let mut notes = analysis.map_or_else(Vec::new, |analysis| analysis.notes().to_vec());
    let plan = formats::plan(request, &recording.track, part, is_changed, &mut notes)?;
    let part = plan.part(part, &recording.track);
    let mut labels = labels.cut(part, part.promised_end(&recording.track));
    if labels.cover.is_none() && request.tags.cover && plan.container.covers != Covers::None {
        labels.cover = pictures::to_attach(extras.cover, input, &mut notes, control)?;
    }

    let file = files::temporary_in(output_dir)?;
    let job = Job { part, plan: &plan, labels: &labels, control };
    let also = Also { levelling, waveform: request.waveform, folder: output_dir };
    let written = job
        .write(&mut recording, &file, also, &mut Pace::start(control, "transcode"))
        .map_err(|failure| failure::in_stage(failure, "transcode"))?;
    notes.extend(judge::damage(&written.tally));
    if asked.end > recording.track.promised_end && recording.track.promised_end.is_some() {
        notes
            .push(note("trim_end_clipped", "the part to keep ended after the end of the recording, and was cut there"));
    }
    drop(recording);

    let mut extraction = describe(&file, &plan, control)?;
    notes.extend(losses(&labels, &extraction, &plan));
    if extraction.chapters.len() != labels.chapters.len() {
        extraction.chapters = labels.until(extraction.duration_ms);
    }
    extraction.notes = notes;
    extraction.loudness = written.loudness;
    name_all(extraction, file, written.waveform, output_dir, request.waveform)
}

/// Gives all files their names, or none.
fn name_all(
    mut extraction: Extraction,
    file: TempPath,
    waveform: Option<TempPath>,
    folder: &Path,
    form: Waveform,
) -> Result<Extraction, Failure> {
    let path = files::name(file, folder.join(format!("audio.{}", extraction.extension)))?;
    let named = waveform.map(|waveform| files::name(waveform, folder.join(waveform::file_name(form)))).transpose();
    extraction.waveform = named.inspect_err(|_| drop(std::fs::remove_file(&path)))?;
    extraction.path = path;
    Ok(extraction)
}

/// What is to be done, and with what.
pub(super) struct Job<'a> {
    pub(super) part: Part,
    pub(super) plan: &'a Plan,
    pub(super) labels: &'a Labels,
    pub(super) control: &'a dyn Control,
}

/// What is done on the way, if the sound is encoded.
pub(super) struct Also<'a> {
    pub(super) levelling: Option<Levelling<'a>>,
    pub(super) waveform: Waveform,
    pub(super) folder: &'a Path,
}

impl<'a> Also<'a> {
    pub(super) fn nothing(folder: &'a Path) -> Self {
        Self { levelling: None, waveform: Waveform::Off, folder }
    }
}

/// What came of it.
pub(super) struct Written {
    tally: Tally,
    loudness: Option<LoudnessReport>,
    waveform: Option<TempPath>,
}

impl Job<'_> {
    /// Writes the file.
    ///
    /// # Errors
    /// Those of [`extract`].
    pub(super) fn write(
        &self,
        recording: &mut Recording<'_>,
        file: &Path,
        also: Also<'_>,
        pace: &mut Pace<'_>,
    ) -> Result<Written, Failure> {
        let mut output = Output::create(file, self.plan.container.muxer, self.control).map_err(preparing)?;
        let is_sure = recording.input.is_sure();
        let (written, is_empty) = match self.plan.encoding {
            None => self.copy(recording, &mut output, also.levelling, pace)?,
            Some(_) => self.encode(recording, &mut output, also, pace)?,
        };
        let Written { tally, .. } = written;
        Reading { track: &recording.track, part: self.part, tally, is_empty, is_sure }.judge()?;
        let output_bytes = output.position();
        output.finish().map_err(|error| failure::libav(error, "finishing the file"))?;
        let media_ms = u64::try_from((tally.reached - self.part.start) / 1_000).unwrap_or(0);
        pace.done(&Place { fraction: 1.0, media_ms, output_bytes });
        Ok(written)
    }

    fn copy(
        &self,
        recording: &mut Recording<'_>,
        output: &mut Output<'_>,
        levelling: Option<Levelling<'_>>,
        pace: &mut Pace<'_>,
    ) -> Result<(Written, bool), Failure> {
        let stream = recording.track.stream.clone();
        copy::declare(output, recording.input.parameters(stream.index), &stream, self.labels.language())?;
        self.start(output)?;
        let mut packets = recording.packets(self.part, copy::MARGIN);
        let tally = copy::run(&mut packets, output, &stream, !self.part.is_whole(), pace)?;
        let loudness = levelling.and_then(Levelling::report_of_copy);
        Ok((Written { tally, loudness, waveform: None }, output.is_empty()))
    }

    fn encode(
        &self,
        recording: &mut Recording<'_>,
        output: &mut Output<'_>,
        also: Also<'_>,
        pace: &mut Pace<'_>,
    ) -> Result<(Written, bool), Failure> {
        let Some(encoding) = &self.plan.encoding else { return Err(failure::internal("there is no encoder")) };
        let parameters = recording.input.parameters(recording.track.stream.index);
        let waveform = Collector::create(also.waveform, encoding.sample_rate, also.folder)?;
        let recipe = Recipe { encoding, levelling: also.levelling, waveform, language: self.labels.language() };
        let mut encode = Encode::prepare(parameters, &recording.track, self.part, recipe, output)?;
        self.start(encode.output())?;
        let mut packets = recording.packets(self.part, decode::MARGIN);
        let Encoded { samples, loudness, waveform } = encode.run(&mut packets, pace)?;
        Ok((Written { tally: packets.tally, loudness, waveform }, samples == 0))
    }

    /// Writes what comes before the sound.
    fn start(&self, output: &mut Output<'_>) -> Result<(), Failure> {
        let container = &self.plan.container;
        let (tags, chapters) = self.labels.for_container(container);
        output.label(&tags, chapters).map_err(preparing)?;
        if let Some(cover) = self.labels.cover.as_ref().filter(|_| container.covers == Covers::Native) {
            output.add_cover(cover).map_err(preparing)?;
        }
        output.start(container.options).map_err(preparing)
    }
}

/// Reads from the file what is in it.
fn describe(file: &Path, plan: &Plan, control: &dyn Control) -> Result<Extraction, Failure> {
    let made = Input::open(file, control)?;
    let track = Track::choose(&made)?;
    let bytes = files::size_of(file);
    let duration_ms = u64::try_from(track.likely_end.unwrap_or(0) / 1_000).unwrap_or(0);
    let stream = &track.stream;
    Ok(Extraction {
        path: file.to_owned(),
        extension: plan.container.extension.to_owned(),
        media_type: plan.container.media_type.to_owned(),
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
        loudness: None,
        waveform: None,
        notes: Vec::new(),
    })
}

/// What was to be in the file and is not.
fn losses(labels: &Labels, made: &Extraction, plan: &Plan) -> Vec<MediaNote> {
    let mut notes = Vec::new();
    if labels.embeds && made.chapters.len() < labels.chapters.len() {
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
    if labels.cover.is_some() && !labels.shows_cover(&plan.container) {
        notes.push(note("cover_dropped", "the cover picture has no place in the file"));
    }
    notes
}

fn preparing(error: ffmpeg_next::Error) -> Failure {
    match error {
        // Muxers check a codec's header before they take it over.
        ffmpeg_next::Error::InvalidData => failure::corrupt("the header of its sound makes no sense"),
        error => failure::libav(error, "preparing the file"),
    }
}
