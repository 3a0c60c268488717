//! A run, as the thread that computes sees it.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use fourmi_learning::Watch;
use fourmi_model::{ErrorClass, Failure, Progress};
use fourmi_runtime::Context;
use rayon::ThreadPoolBuilder;

/// Between two updates of the progress: callers see ten a second.
const BETWEEN: Duration = Duration::from_millis(100);

/// A run, as the thread that computes sees it.
pub(crate) struct Run {
    context: Context,
    said: Mutex<Instant>,
}

/// A part of a run that callers are told of by name, from one percentage to another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stage {
    /// A stable word.
    pub(crate) name: &'static str,
    pub(crate) from: f32,
    pub(crate) to: f32,
}

impl Run {
    pub(crate) fn is_cancelled(&self) -> bool {
        self.context.is_cancelled()
    }

    /// Whether no other run will follow this one.
    pub(crate) fn is_cancelled_for_good(&self) -> bool {
        self.context.is_cancelled_for_good()
    }

    /// Says that a stage begins.
    pub(crate) fn begin(&self, stage: Stage, message: &str) {
        self.say(stage, 0.0, message);
    }

    /// Says how far a stage is, as often as one likes.
    pub(crate) fn advance(&self, stage: Stage, share: f64, message: &str) {
        {
            let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
            if said.elapsed() < BETWEEN {
                return;
            }
            *said = Instant::now();
        }
        self.say(stage, share, message);
    }

    fn say(&self, stage: Stage, share: f64, message: &str) {
        let percent = stage.from + (stage.to - stage.from) * share as f32;
        let progress =
            Progress { stage: stage.name.to_owned(), percent, message: message.to_owned(), ..Progress::default() };
        self.context.progress(progress);
    }

    /// Does a stage that is watched.
    pub(crate) fn watched<T>(&self, stage: Stage, message: &str, work: impl FnOnce(Watch<'_>) -> T) -> T {
        self.begin(stage, message);
        // Several threads report: what comes late is behind what was said.
        let furthest = AtomicU64::new(0);
        let report = |share: f64| {
            let share = f64::from_bits(furthest.fetch_max(share.max(0.0).to_bits(), Ordering::Relaxed)).max(share);
            self.advance(stage, share, message);
        };
        work(Watch::new(&|| self.is_cancelled(), &report))
    }
}

/// Does work that takes all processors, on threads that may block.
pub(crate) async fn compute<T: Send + 'static>(
    context: &Context,
    work: impl FnOnce(&Run) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let run = Run { context: context.clone(), said: Mutex::new(Instant::now()) };
    let fault =
        || Failure::retry("panic", "the handler met a fault of its own and was stopped").class(ErrorClass::Internal);
    let done = tokio::task::spawn_blocking(move || {
        let pool = ThreadPoolBuilder::new().build().map_err(|error| {
            Failure::retry("no_threads", "no threads could be started to compute with").because(error)
        })?;
        pool.install(|| work(&run))
    });
    done.await.unwrap_or_else(|error| Err(fault().because(error)))
}
