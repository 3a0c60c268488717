//! One audio file a chapter.

use std::path::{Path, PathBuf};

use ffmpeg_next::codec;
use fourmi_kinds::{AudioExtract, AudioFormat, Chapter, Source};
use fourmi_model::Failure;
use serde::{Deserialize, Serialize};

use super::{
    extract::{Also, Job},
    formats::{self, Plan},
    labels::Labels,
    recording::Recording,
    track::{Part, Track},
};
use crate::{
    Control, failure, files,
    libav::log,
    progress::{Pace, Place},
};

/// The file of a chapter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartFile {
    /// Where it is: `chapter-<number>.<extension>` in the folder that was given.
    pub path: PathBuf,
    /// The ending that its name should have, without a dot.
    pub extension: String,
    /// Its media type.
    pub media_type: String,
    /// Which chapter it is, counted from 1.
    pub number: usize,
    /// The chapter, in the times of the whole.
    pub chapter: Chapter,
    /// Its size in bytes.
    pub bytes: u64,
}

/// Writes one file a chapter from the audio file at `audio`. The packets are copied, so that a chapter is exact to the packet;
/// FLAC is encoded anew, which loses nothing, and is exact to the sample. The tags are those of the whole, but for `title` (the
/// chapter's) and `track` (`2/7`). Chapters that hold no packet get no file. Tells how far it is as the stage `split`.
///
/// # Errors
/// Those of [`super::extract`]. Nothing is left behind.
pub fn split(
    audio: &Path,
    chapters: &[Chapter],
    output_dir: &Path,
    control: &dyn Control,
) -> Result<Vec<PartFile>, Failure> {
    let _log = log::Capture::start();
    let mut made = Vec::new();
    let result = write_all(audio, chapters, output_dir, control, &mut made);
    result.map(|()| std::mem::take(&mut made)).map_err(|failure| {
        for part in &made {
            let _ = std::fs::remove_file(&part.path);
        }
        // libav has many words for being interrupted.
        if control.cancelled() { Failure::cancelled() } else { failure::in_stage(failure, "split") }
    })
}

fn write_all(
    audio: &Path,
    chapters: &[Chapter],
    output_dir: &Path,
    control: &dyn Control,
    made: &mut Vec<PartFile>,
) -> Result<(), Failure> {
    let mut pace = Pace::start(control, "split");
    let mut place = Place { fraction: 0.0, media_ms: 0, output_bytes: 0 };
    for (chapter, number) in chapters.iter().zip(1..) {
        pace.go_on()?;
        let part = write(audio, chapter, number, chapters.len(), output_dir, control);
        match part {
            Ok(part) => {
                place.output_bytes += part.bytes;
                made.push(part);
            }
            // A chapter after the end, or shorter than a packet.
            Err(failure) if ["trim_out_of_range", "zero_duration"].contains(&failure.code.as_str()) => {}
            Err(failure) => return Err(failure),
        }
        place.fraction = number as f64 / chapters.len() as f64;
        place.media_ms = chapter.end_ms;
        if pace.is_due() {
            pace.tell(&place);
        }
    }
    pace.done(&Place { fraction: 1.0, ..place });
    Ok(())
}

/// Packets are copied, but those of FLAC: its header counts the samples of the whole, and encoding anew loses none.
fn plan(track: &Track, part: Part) -> Result<Plan, Failure> {
    let anew = track.stream.codec == codec::Id::FLAC && track.stream.channels.is_some_and(|channels| channels <= 2);
    let format = if anew { AudioFormat::Flac } else { AudioFormat::Copy };
    // Nobody looks at the source.
    let request = AudioExtract { format, ..AudioExtract::of(Source::Url(String::new())) };
    formats::plan(&request, track, part, false, &mut Vec::new())
}

fn write(
    audio: &Path,
    chapter: &Chapter,
    number: usize,
    of: usize,
    output_dir: &Path,
    control: &dyn Control,
) -> Result<PartFile, Failure> {
    let mut recording = Recording::open(audio, None, control)?;
    let part = Part::between(chapter.start_ms, chapter.end_ms, &recording.track)?;
    let plan = plan(&recording.track, part)?;
    let mut labels = Labels::of_file(&recording.input, &recording.track);
    labels.tags.insert("track".to_owned(), format!("{number}/{of}"));
    if !chapter.title.trim().is_empty() {
        labels.tags.insert("title".to_owned(), chapter.title.clone());
    }
    let file = files::temporary_in(output_dir)?;
    let job = Job { part, plan: &plan, labels: &labels, control };
    // Many small files: how far each is would tell nobody anything.
    let mut pace = Pace::silent(control);
    job.write(&mut recording, &file, Also::nothing(output_dir), &mut pace)?;

    let (extension, media_type) = (plan.container.extension.to_owned(), plan.container.media_type.to_owned());
    let bytes = files::size_of(&file);
    let path = files::name(file, output_dir.join(format!("chapter-{number:03}.{extension}")))?;
    Ok(PartFile { path, extension, media_type, number, chapter: chapter.clone(), bytes })
}
