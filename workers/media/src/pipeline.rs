//! From a recording that is here to stored files.

use std::path::Path;

use fourmi_kinds::{AudioExtract, AudioExtracted};
use fourmi_media::{Control, audio};
use fourmi_model::{ErrorClass, Failure};
use fourmi_runtime::{Context, Kept};

use crate::{
    source::Recording,
    stages::{Stage, Stages},
};

/// What is to be done, and with what.
pub(crate) struct Work<'a> {
    pub(crate) request: &'a AudioExtract,
    pub(crate) wants_file: bool,
    pub(crate) recording: &'a Recording,
    pub(crate) kept: Option<&'a Kept>,
    pub(crate) folder: &'a Path,
    pub(crate) context: &'a Context,
    pub(crate) stages: &'a Stages,
}

impl Work<'_> {
    pub(crate) async fn run(&self) -> Result<AudioExtracted, Failure> {
        self.stages.enter(Stage::Transcode);
        let (path, folder, request) = (self.recording.path.clone(), self.folder.to_owned(), self.request.clone());
        let extraction = self.blocking(move |control| audio::extract(&path, &folder, &request, control)).await?;
        self.stages.enter(Stage::Store);
        let name = format!("{}.{}", self.recording.name, extraction.extension);
        let file = self.context.store(&extraction.path, "audio", name, extraction.media_type).await?;
        let mut result = extraction.into_extracted(file);
        result.source.clone_from(&self.recording.info);
        result.timings_ms = self.stages.timings();
        Ok(result)
    }

    /// Does work of libav's, on a thread that may block.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Control) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let control = self.stages.clone();
        let done = tokio::task::spawn_blocking(move || work(&control)).await;
        done.unwrap_or_else(|error| {
            let failure = Failure::retry("panic", "the handler met a fault of its own and was stopped");
            Err(failure.class(ErrorClass::Internal).because(error))
        })
    }
}
