//! From a delivery to its outcome: finds the handler, runs it where its kind says, and turns what it gave into what
//! the queue writes down.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use apalis_core::task::Task;
use fourmi_blobs::Blobs;
use fourmi_model::{Envelope, ErrorClass, ErrorReport, Failure, Isolation, Policy};
use fourmi_queue::{BackendHandle, Delivery, Outcome, Queues, Stop, Transitions};
use fourmi_settings::Data;
use tokio::{
    sync::OnceCell,
    time::{sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;
use tower_service::Service;
use tracing::Instrument;

use crate::{
    Context,
    context::{About, RunInfo, scratch_failure, span},
    handler::{Ended, Handler, Handlers},
    isolation::{Crash, Order, parent},
    local::LocalHost,
    rooms::Rooms,
    scratch::Scratch,
    watch::{Observers, Watch},
};

/// A job of an unknown kind or schema version goes back for about this long: a newer worker may know it.
const UNKNOWN_DELAY: Duration = Duration::from_secs(5);

/// The service of a worker.
#[derive(Clone)]
pub(crate) struct Dispatch(Arc<House>);

/// What all runs of a process share.
pub(crate) struct House {
    pub(crate) handlers: Handlers,
    pub(crate) backend: BackendHandle,
    pub(crate) queues: Queues,
    pub(crate) transitions: Transitions,
    pub(crate) blobs: Blobs,
    pub(crate) scratch: Scratch,
    pub(crate) data: Data,
    /// Variables of the environment that kinds read.
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) observers: Observers,
}

/// What came of a run.
pub(crate) enum RunEnd {
    /// The handler said something.
    Ended(Ended),
    /// The process of the handler died.
    Crashed(Crash),
}

impl Dispatch {
    pub(crate) fn new(house: House) -> Self {
        Self(Arc::new(house))
    }
}

impl Service<Task<Delivery>> for Dispatch {
    type Response = Outcome;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Outcome, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, task: Task<Delivery>) -> Self::Future {
        let house = self.0.clone();
        // A task of its own, so that a handler that computes for long does not hold up the others.
        let run = AbortOnDropHandle::new(tokio::spawn(house.outcome(task.args)));
        Box::pin(async move {
            Ok(run.await.unwrap_or_else(|error| {
                tracing::error!(%error, "a run ended without an outcome");
                Outcome::Released { delay: UNKNOWN_DELAY }
            }))
        })
    }
}

impl House {
    async fn outcome(self: Arc<Self>, delivery: Delivery) -> Outcome {
        let watch = self.observers.watch(&delivery);
        let envelope = &delivery.envelope;
        let span = span(&delivery.id, delivery.run, &envelope.kind, envelope.correlation_id.as_deref());
        let outcome = self.settle(&delivery, watch.as_ref()).instrument(span).await;
        if let Some(watch) = watch {
            watch.ended(&outcome);
        }
        outcome
    }

    async fn settle(&self, delivery: &Delivery, watch: Option<&Arc<Watch>>) -> Outcome {
        let envelope = delivery.envelope.clone();
        let known = self.handlers.get(envelope.kind.as_str());
        let Some(handler) = known.filter(|handler| envelope.schema_version <= handler.schema_version) else {
            tracing::warn!(
                job.schema_version = envelope.schema_version,
                "this worker does not know the kind or its version; the job goes back"
            );
            let delay = UNKNOWN_DELAY.mul_f64(0.5 + rand::random::<f64>());
            return Outcome::Misdirected { error: unknown(&envelope, known), delay };
        };
        let policy = handler.policy.clone().with(&envelope.policy);
        let rooms = Rooms::of(&self.data, &delivery.id);
        let end = self.run(handler, &policy, delivery, &rooms, watch).await;
        let outcome = conclude(end, &policy, delivery);
        log(&outcome);
        let is_over = matches!(outcome, Outcome::Succeeded { .. } | Outcome::Cancelled { .. } | Outcome::Failed { .. });
        // Looking for a folder costs as much as all else that is done for a short job.
        let may_have_rooms = delivery.run > 1 || policy.isolation != Isolation::InProcess || rooms.are_used();
        if is_over && may_have_rooms {
            rooms.forget(&self.blobs).await;
        }
        outcome
    }

    async fn run(
        &self,
        handler: &Handler,
        policy: &Policy,
        delivery: &Delivery,
        rooms: &Rooms,
        watch: Option<&Arc<Watch>>,
    ) -> RunEnd {
        let folder = self.scratch.run(&format!("{}-{}", delivery.id.uuid(), delivery.run));
        let host = Arc::new(LocalHost {
            id: delivery.id.clone(),
            run: delivery.run,
            envelope: delivery.envelope.clone(),
            queues: self.queues.clone(),
            transitions: self.transitions.clone(),
            backend: self.backend.clone(),
            blobs: self.blobs.clone(),
            rooms: rooms.clone(),
            secrets: self.data.secrets(),
            owner: OnceCell::new(),
            watch: watch.cloned(),
        });
        let trace = watch.and_then(|watch| watch.trace_context());
        let (run, settings) = (RunInfo::of(delivery, policy), self.settings.clone());
        let about = About { run, rooms: rooms.clone(), settings, trace };
        match policy.isolation {
            Isolation::InProcess => {
                let context = Context::new(about, false, folder, host, delivery.stop.clone());
                run_here(handler, policy, delivery, context).await
            }
            Isolation::Process { memory_bytes } => {
                let scratch = match folder.path() {
                    Ok(path) => path.to_owned(),
                    Err(error) => return RunEnd::Ended(Err(scratch_failure(&error))),
                };
                let (kind, payload) = (delivery.envelope.kind.clone(), delivery.envelope.payload.clone());
                let order = Order { about, kind, payload, scratch };
                parent::run(&order, memory_bytes, policy, host, &delivery.stop).await
            }
        }
    }
}

/// Why this worker gives a job back.
fn unknown(envelope: &Envelope, handler: Option<&Handler>) -> ErrorReport {
    let (code, what) = match handler {
        None => ("unknown_kind", format!("the kind {}", envelope.kind)),
        Some(handler) => {
            let (wanted, known) = (envelope.schema_version, handler.schema_version);
            ("unknown_schema_version", format!("version {wanted} of {}, only {known}", envelope.kind))
        }
    };
    let message = format!("the worker that had the job does not know {what}: it waits for a newer worker");
    Failure::retry(code, message).report()
}

/// Runs a handler in this process, within its time; stops it by force if it does not stop when asked.
async fn run_here(handler: &Handler, policy: &Policy, delivery: &Delivery, context: Context) -> RunEnd {
    let run = handler.run(&delivery.envelope.payload, context);
    let forced = async {
        delivery.stop.fired().await;
        sleep(policy.stop_grace).await;
    };
    RunEnd::Ended(tokio::select! {
        ended = timeout(policy.timeout, run) => ended.unwrap_or_else(|_| Err(timed_out(policy.timeout))),
        () = forced => Err(Failure::cancelled()),
    })
}

pub(crate) fn timed_out(limit: Duration) -> Failure {
    Failure::retry("timeout", format!("the run took longer than {} s and was stopped", limit.as_secs_f64()))
        .class(ErrorClass::Timeout)
}

/// What the queue is to write down.
fn conclude(end: RunEnd, policy: &Policy, delivery: &Delivery) -> Outcome {
    let (done, failed) = (policy.retention.done, policy.retention.failed);
    let stop = delivery.stop.reason();
    match end {
        RunEnd::Ended(Ok(result)) => {
            let result = if result.get() == "null" { String::new() } else { result.get().to_owned() };
            Outcome::Succeeded { result, keep: done }
        }
        RunEnd::Ended(Err(_)) | RunEnd::Crashed(_) if matches!(stop, Some(Stop::Draining | Stop::LeaseLost)) => {
            Outcome::Released { delay: Duration::ZERO }
        }
        RunEnd::Ended(Err(_)) | RunEnd::Crashed(_) if stop == Some(Stop::Cancelled) => {
            Outcome::Cancelled { error: Failure::cancelled().report(), keep: done }
        }
        RunEnd::Crashed(crash) => {
            let delay = policy.backoff.delay(delivery.crashes + 1, rand::random());
            Outcome::Crashed { error: crash.failure().report(), delay, keep: failed }
        }
        RunEnd::Ended(Err(failure)) => Outcome::of_failure(&failure, policy, delivery.attempts),
    }
}

/// The span of the run says which it is.
fn log(outcome: &Outcome) {
    match outcome {
        Outcome::Succeeded { .. }
        | Outcome::Cancelled { .. }
        | Outcome::Released { .. }
        | Outcome::Misdirected { .. } => {
            tracing::debug!(outcome = outcome.as_str(), "run ended");
        }
        Outcome::Retrying { error, delay, .. } => {
            let delay_ms = delay.as_millis();
            tracing::info!(error.code, error.message, delay_ms, "run failed; will be tried again");
        }
        Outcome::Parked { error, reason, .. } => {
            tracing::info!(error.message, reason = reason.as_str(), "job parked");
        }
        Outcome::Crashed { error, .. } => {
            tracing::warn!(error.code, error.message, error.cause, "run crashed");
        }
        Outcome::Failed { error, .. } => {
            tracing::info!(error.code, error.message, "job failed");
        }
    }
}
