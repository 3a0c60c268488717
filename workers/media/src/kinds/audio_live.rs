//! `audio.live`.

use fourmi_kinds::{
    AudioExtract, AudioLive, AudioRecorded, Chapter, ChapterOptions, Normalize, Source, Thumbnails, Waveform,
};
use fourmi_media::audio::{self, Extras};
use fourmi_model::{BlobId, Failure, ParkReason};
use fourmi_runtime::Context;
use fourmi_settings::Media;

use crate::{
    live::{Finishing, Recorded, Recorder, State},
    source::{Limits, Web},
    stages::{Stage, Stages},
};

pub(crate) async fn run(job: AudioLive, context: Context) -> Result<AudioRecorded, Failure> {
    let settings =
        Media::read(context.settings()).map_err(|error| Failure::park(ParkReason::NotConfigured, error.to_string()))?;
    let kept = context.kept().await?.ok_or_else(|| {
        Failure::retry("worker_lost", "an earlier run is still recording; this one waits until it has ended")
    })?;
    let web = Web::open(&settings, Limits::of_operator(&settings)).await?;
    let stages = Stages::new(&context, Stage::Download);
    let fetcher = web.fetcher(&context, &stages);
    let recorded = Recorder::new(&job, &context, fetcher, &kept).record().await?;
    finish(&job, recorded, &context, kept.folder()).await
}

/// Writes what was recorded anew, in the form that was asked for.
async fn finish(
    job: &AudioLive,
    recorded: Recorded,
    context: &Context,
    folder: &std::path::Path,
) -> Result<AudioRecorded, Failure> {
    let Recorded { state, ended, path, file } = recorded;
    let request = AudioExtract {
        format: job.format,
        bitrate_kbps: job.bitrate_kbps,
        normalize: Some(Normalize::Off),
        chapters: ChapterOptions { list: Some(parts(&state)), ..ChapterOptions::default() },
        tags: job.tags.clone(),
        thumbnails: Thumbnails::Off,
        waveform: Waveform::Off,
        // Its source is not looked at.
        ..AudioExtract::of(Source::Upload(BlobId::random()))
    };
    let (output, control) = (folder.to_owned(), Finishing(context.clone()));
    let made = tokio::task::spawn_blocking(move || {
        audio::extract(&path, &output, &request, &Extras::default(), None, &control)
    });
    let made = made
        .await
        .unwrap_or_else(|error| Err(Failure::retry("panic", "the recording could not be finished").because(error)))
        .map_err(|failure| failure.in_stage("finish"))?;
    let title = job.tags.set.get("title").map_or("live", String::as_str);
    let name = format!("{title}.{}", made.extension);
    let audio = context.store(&made.path, "audio", name, made.media_type).await?;
    context.discard(file).await?;
    let mut notes = state.notes.clone();
    notes.extend(made.notes);
    Ok(AudioRecorded {
        files: vec![audio],
        duration_ms: made.duration_ms,
        codec: made.codec,
        gaps: state.gaps,
        ended,
        segments: state.segments,
        reconnects: state.reconnects,
        notes,
    })
}

/// The parts between gaps, as chapters; none if there is no gap.
fn parts(state: &State) -> Vec<Chapter> {
    if state.gaps.is_empty() {
        return Vec::new();
    }
    let ends = state.gaps.iter().map(|gap| gap.at_ms).chain([state.recorded_ms()]);
    let mut start_ms = 0;
    let mut parts = Vec::new();
    for end_ms in ends {
        if end_ms > start_ms {
            parts.push(Chapter { start_ms, end_ms, title: format!("Part {}", parts.len() + 1) });
        }
        start_ms = end_ms;
    }
    parts
}
