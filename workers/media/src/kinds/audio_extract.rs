//! `audio.extract`.

use std::path::Path;

use fourmi_kinds::{AudioExtract, AudioExtracted, Source};
use fourmi_media::audio;
use fourmi_model::Failure;
use fourmi_runtime::Context;

use super::blocking;

pub(crate) async fn run(job: AudioExtract, context: Context) -> Result<AudioExtracted, Failure> {
    let Source::Upload(file) = &job.source else {
        return Err(Failure::permanent("unsupported_url", "only uploads are read so far"));
    };
    let source = context.input(*file).await?;
    let folder = context.scratch()?.to_owned();
    let path = source.path;
    let extraction = blocking(&context, move |control| {
        audio::extract(&path, &folder, &job, &audio::Extras::default(), None, control)
    })
    .await?;
    let name = audio_name(&source.name, &extraction.extension);
    let file = context.store(&extraction.path, "audio", name, &extraction.media_type).await?;
    Ok(extraction.into_extracted(file))
}

/// The source's name with another ending.
fn audio_name(source: &str, extension: &str) -> String {
    let stem = Path::new(source).file_stem().and_then(|stem| stem.to_str()).unwrap_or("audio");
    format!("{stem}.{extension}")
}
