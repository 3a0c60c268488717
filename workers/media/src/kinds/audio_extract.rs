//! `audio.extract`.

use fourmi_kinds::{AudioExtract, AudioExtracted, Source, SourceInfo};
use fourmi_model::{ErrorClass, Failure, ParkReason};
use fourmi_runtime::Context;
use fourmi_settings::Media;

use crate::{
    pipeline::Work,
    results::{Key, Results},
    source::{self, Recording},
    stages::{Stage, Stages},
};

pub(crate) async fn run(job: AudioExtract, context: Context) -> Result<AudioExtracted, Failure> {
    extract(job, true, context).await
}

/// The story of an extraction; `wants_file` if an audio file is wanted, not only what lies beside it.
pub(crate) async fn extract(job: AudioExtract, wants_file: bool, context: Context) -> Result<AudioExtracted, Failure> {
    let settings =
        Media::read(context.settings()).map_err(|error| Failure::park(ParkReason::NotConfigured, error.to_string()))?;
    let first = if matches!(job.source, Source::Url(_)) { Stage::Resolve } else { Stage::Analyse };
    let stages = Stages::new(&context, first);
    stages.enter(first);
    let fresh = settings.reuse.filter(|_| job.reuse);
    let results = Results::open(&job, wants_file, fresh.unwrap_or_default(), &context)?;
    results.tidy();

    let waiting = || stages.say(0.0, "another job is making the same");
    // Held until the end, so that equal requests at the same time are answered by one piece of work.
    let mut held = Vec::new();
    if let (Source::Url(url), Some(_)) = (&job.source, fresh) {
        let (lock, answer) = results.claim(&Key::Url(url), waiting).await?;
        if let Some(answer) = answer {
            return Ok(again(answer, &job, &stages));
        }
        held.push(lock);
    }
    let kept = context.kept().await?;
    let folder = source::folder_of(kept.as_ref(), &context)?;
    let recording = match &job.source {
        Source::Upload(file) => {
            let file = context.input(*file).await?;
            Recording::stored(file.path, &file.name, file.sha256)
        }
        Source::Url(url) => {
            let source = source::Source {
                url,
                request: &job,
                settings: &settings,
                context: &context,
                stages: &stages,
                kept: folder,
            };
            source.fetch().await.map_err(|failure| in_stage(failure, &stages))?
        }
    };
    let (sha256, page) = (recording.sha256.clone(), recording.page.clone());
    let content = Key::Content { sha256: &sha256, page: &page };
    if fresh.is_some() {
        let (lock, answer) = results.claim(&content, waiting).await?;
        if let Some(answer) = answer {
            let answer = AudioExtracted { source: recording.info, ..answer };
            note(&results, &job, &content, &answer);
            return Ok(again(answer, &job, &stages));
        }
        held.push(lock);
    }
    let work = Work {
        request: &job,
        wants_file,
        recording: &recording,
        kept: kept.as_ref(),
        folder,
        context: &context,
        stages: &stages,
    };
    match work.run().await {
        Ok(result) => {
            note(&results, &job, &content, &result);
            Ok(result)
        }
        Err(failure) => {
            let failure = in_stage(failure, &stages);
            if recording.info.is_some() && is_no_recording(&failure) {
                source::Source::forget(recording);
                return Err(of_address(failure));
            }
            Err(failure)
        }
    }
}

/// An answer of before, as that of this job.
fn again(answer: AudioExtracted, job: &AudioExtract, stages: &Stages) -> AudioExtracted {
    let source = answer.source.map(|info| match &job.source {
        Source::Url(url) => SourceInfo { url: url.clone(), ..info },
        Source::Upload(_) => info,
    });
    AudioExtracted { source, timings_ms: stages.timings(), ..answer }
}

fn note(results: &Results<'_>, job: &AudioExtract, content: &Key<'_>, result: &AudioExtracted) {
    if let Source::Url(url) = &job.source {
        results.note(&Key::Url(url), result);
    }
    results.note(content, result);
}

fn in_stage(failure: Failure, stages: &Stages) -> Failure {
    if failure.stage.is_some() || failure.code == "cancelled" {
        failure
    } else {
        failure.in_stage(stages.stage().as_str())
    }
}

/// Whether what was fetched is to blame, so that fetching it again might give something else.
fn is_no_recording(failure: &Failure) -> bool {
    ["not_media", "empty_file", "truncated_media", "corrupt_media", "zero_duration"].contains(&failure.code.as_str())
}

/// What is no recording was not uploaded by anybody: the address is what is wrong.
fn of_address(failure: Failure) -> Failure {
    if failure.code != "not_media" && failure.code != "empty_file" {
        return failure;
    }
    let words = format!("what the address gives is no recording: {}", failure.message);
    Failure { code: "unsupported_url".to_owned(), message: words, class: ErrorClass::Unsupported, ..failure }
}
