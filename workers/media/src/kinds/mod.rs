//! The handlers, one file a kind.

pub(crate) mod audio_derive;
pub(crate) mod audio_extract;
pub(crate) mod audio_live;
pub(crate) mod media_probe;

use fourmi_media::Control;
use fourmi_model::{ErrorClass, Failure, Progress};
use fourmi_runtime::Context;

/// The context of a run, as libav's thread sees it.
struct Run(Context);

impl Control for Run {
    fn progress(&self, progress: Progress) {
        self.0.progress(progress);
    }

    fn cancelled(&self) -> bool {
        self.0.is_cancelled()
    }
}

/// Does work that blocks, on a thread that may.
async fn blocking<T: Send + 'static>(
    context: &Context,
    work: impl FnOnce(&dyn Control) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let run = Run(context.clone());
    let done = tokio::task::spawn_blocking(move || work(&run)).await;
    done.unwrap_or_else(|error| {
        let failure = Failure::retry("panic", "the handler met a fault of its own and was stopped");
        Err(failure.class(ErrorClass::Internal).because(error))
    })
}
