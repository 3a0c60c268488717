//! `audio.derive`: an extraction whose source is stored, and which may make less.

use fourmi_kinds::{AudioDerive, AudioExtracted};
use fourmi_model::Failure;
use fourmi_runtime::Context;

use super::audio_extract::extract;

pub(crate) async fn run(job: AudioDerive, context: Context) -> Result<AudioExtracted, Failure> {
    let (request, wants_file) = job.into_extract();
    extract(request, wants_file, context).await
}
