//! `media.probe`.

use fourmi_kinds::{MediaInfo, MediaProbe, Source};
use fourmi_media::probe;
use fourmi_model::Failure;
use fourmi_runtime::Context;

use super::blocking;

pub(crate) async fn run(job: MediaProbe, context: Context) -> Result<MediaInfo, Failure> {
    let Source::Upload(file) = &job.source else {
        return Err(Failure::permanent("unsupported_url", "only uploads are read so far"));
    };
    let source = context.input(*file).await?;
    blocking(&context, move |control| probe::probe(&source.path, control)).await
}
