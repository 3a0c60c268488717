//! What a handler may do beside its work.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use fourmi_kinds::JobKind;
use fourmi_model::{
    Artifact, BlobId, Failure, JobId, KindName, LogEntry, LogLevel, Parent, Policy, Progress, TenantName,
};
use fourmi_queue::{Delivery, Stop, StopSignal};
use fourmi_settings::Environment;
use fourmi_telemetry::traces::TraceContext;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tracing::Span;

use crate::{
    enqueue::{ChildJob, NewJob},
    program::Program,
    rooms::{Kept, Rooms},
    scratch::RunFolder,
};

/// The variable by which a process learns where it belongs in a trace.
pub(crate) const TRACEPARENT: &str = "TRACEPARENT";

/// What a handler may do beside its work; cheap to clone. The same in the worker process and in an isolated child.
#[derive(Clone)]
pub struct Context {
    inner: Arc<Inner>,
}

struct Inner {
    run: RunInfo,
    scratch: RunFolder,
    rooms: Rooms,
    settings: Environment,
    trace: Option<TraceContext>,
    /// Whether the run has a process of its own.
    isolated: bool,
    host: Arc<dyn Host>,
    stop: StopSignal,
    furthest: Mutex<f32>,
}

/// Which run of which job this is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RunInfo {
    pub(crate) id: JobId,
    pub(crate) run: u64,
    pub(crate) attempts: u32,
    /// Whether another failure ends the job.
    pub(crate) last_attempt: bool,
    pub(crate) correlation_id: Option<String>,
}

impl RunInfo {
    pub(crate) fn of(delivery: &Delivery, policy: &Policy) -> Self {
        Self {
            id: delivery.id.clone(),
            run: delivery.run,
            attempts: delivery.attempts,
            last_attempt: policy.attempts.is_some_and(|most| delivery.attempts >= most),
            correlation_id: delivery.envelope.correlation_id.clone(),
        }
    }

    /// The span of all that is done for the run, in the worker and in a child.
    pub(crate) fn span(&self, kind: &KindName) -> Span {
        span(&self.id, self.run, kind, self.correlation_id.as_deref())
    }
}

/// The span of all that is done for a run.
pub(crate) fn span(job: &JobId, run: u64, kind: &KindName, correlation: Option<&str>) -> Span {
    tracing::info_span!("run", job.id = %job, job.run = run, job.kind = %kind, correlation.id = correlation)
}

/// What a run is told at its start.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct About {
    pub(crate) run: RunInfo,
    pub(crate) rooms: Rooms,
    /// Variables of the worker's environment that its kinds read.
    pub(crate) settings: Vec<(String, String)>,
    /// Where what it starts belongs in a trace.
    pub(crate) trace: Option<TraceContext>,
}

/// The side of a context that differs between the worker process and a child.
pub(crate) trait Host: Send + Sync {
    /// Passes progress on; must not block.
    fn progress(&self, progress: Progress);
    /// Passes a line of the job's log on; must not block.
    fn log(&self, entry: LogEntry);
    /// Says that so many lines were left out on their way here.
    fn log_left_out(&self, lines: u64);
    /// Where the content of a stored file can be read.
    fn input(&self, file: BlobId) -> BoxFuture<'_, Result<InputFile, Failure>>;
    /// A stored file as one of the job's owner; under a name of its own, if one is given.
    fn share(&self, file: BlobId, name: Option<String>) -> BoxFuture<'_, Result<Shared, Failure>>;
    /// Takes over a finished file.
    fn store(&self, file: NewFile) -> BoxFuture<'_, Result<Artifact, Failure>>;
    /// Makes a file that grows, or finds the one of an earlier run.
    fn grow(&self, file: NewGrowing) -> BoxFuture<'_, Result<GrowingFile, Failure>>;
    /// Removes a file that grew.
    fn discard(&self, file: BlobId) -> BoxFuture<'_, Result<(), Failure>>;
    /// What the operator keeps under a name.
    fn secret(&self, name: String) -> BoxFuture<'_, Result<String, Failure>>;
    /// Whose the job is.
    fn tenant(&self) -> BoxFuture<'_, Result<Option<TenantName>, Failure>>;
    /// What became of the jobs that this one has waited for.
    fn parents(&self) -> BoxFuture<'_, Result<Vec<Parent>, Failure>>;
    /// Makes a job.
    fn enqueue(&self, job: NewJob) -> BoxFuture<'_, Result<JobId, Failure>>;
}

/// A stored file, to be read.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct InputFile {
    /// Where its content is. It must not be changed.
    pub path: PathBuf,
    /// The name that it was stored under.
    pub name: String,
    /// The SHA-256 of its content, in lower-case hexadecimal digits.
    pub sha256: String,
}

/// A stored file, as the job's owner has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Shared {
    pub(crate) id: BlobId,
    pub(crate) name: String,
}

/// A stored file that grows while the run appends to it, and can be read meanwhile.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GrowingFile {
    /// Its id.
    pub id: BlobId,
    /// Where to append.
    pub path: PathBuf,
}

/// A file that is to grow.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct NewGrowing {
    /// The one that an earlier run made, if it did.
    pub(crate) again: Option<BlobId>,
    pub(crate) name: String,
    pub(crate) media_type: String,
}

/// A finished file in the scratch folder, to be taken over.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct NewFile {
    pub(crate) path: PathBuf,
    pub(crate) role: String,
    pub(crate) name: String,
    pub(crate) media_type: String,
}

impl Context {
    pub(crate) fn new(about: About, isolated: bool, scratch: RunFolder, host: Arc<dyn Host>, stop: StopSignal) -> Self {
        let About { run, rooms, settings, trace } = about;
        let settings = Environment::of(settings);
        let furthest = Mutex::new(0.0);
        Self { inner: Arc::new(Inner { run, scratch, rooms, settings, trace, isolated, host, stop, furthest }) }
    }

    /// The job.
    pub fn job_id(&self) -> &JobId {
        &self.inner.run.id
    }

    /// The number of this run of the job. It grows with every run: a store that remembers it can refuse older ones.
    pub fn run(&self) -> u64 {
        self.inner.run.run
    }

    /// Which attempt this is, from 1.
    pub fn attempt(&self) -> u32 {
        self.inner.run.attempts
    }

    /// Whether a failure of this run that would be tried again ends the job instead: it had its last attempt.
    pub fn is_last_attempt(&self) -> bool {
        self.inner.run.last_attempt
    }

    /// What runs through all logs of this piece of work.
    pub fn correlation_id(&self) -> Option<&str> {
        self.inner.run.correlation_id.as_deref()
    }

    /// A folder of this run alone, removed after it.
    ///
    /// # Errors
    /// A retryable failure `scratch_failed` if it cannot be made.
    pub fn scratch(&self) -> Result<&Path, Failure> {
        self.inner.scratch.path().map_err(|error| scratch_failure(&error))
    }

    /// The folder that this job keeps between its runs: what it has there need not be done again after a crash. It is
    /// removed when the job is over. `None` if an earlier run is still in it.
    ///
    /// # Errors
    /// A retryable failure `scratch_failed` if it cannot be made.
    pub async fn kept(&self) -> Result<Option<Kept>, Failure> {
        self.inner.rooms.open_kept().await.map_err(|error| scratch_failure(&error))
    }

    /// A folder that all jobs of the queue on this machine share, for what can be fetched or made again. Who uses it also
    /// keeps it small.
    ///
    /// # Errors
    /// A retryable failure `scratch_failed` if it cannot be made.
    pub fn cache(&self) -> Result<&Path, Failure> {
        let folder = &self.inner.rooms.cache;
        std::fs::create_dir_all(folder).map_err(|error| scratch_failure(&error))?;
        Ok(folder)
    }

    /// The settings that the worker asked for with [`crate::Worker::settings`].
    pub fn settings(&self) -> &Environment {
        &self.inner.settings
    }

    /// A program that works for this run, in `folder`, and dies with it.
    pub fn program(&self, program: &Path, folder: &Path) -> Program {
        let program = Program::new(program, folder, !self.inner.isolated);
        match self.inner.trace {
            Some(context) => program.env(TRACEPARENT, context.to_string()),
            None => program,
        }
    }

    /// Says how far the run is; as often as one likes, callers see ten updates a second. Percent never goes back: a
    /// smaller one is raised to the furthest.
    pub fn progress(&self, mut progress: Progress) {
        let mut furthest = self.inner.furthest.lock().unwrap_or_else(PoisonError::into_inner);
        progress.percent =
            if progress.percent.is_finite() { progress.percent.clamp(*furthest, 100.0) } else { *furthest };
        *furthest = progress.percent;
        self.inner.host.progress(progress);
    }

    /// Writes a line to the job's log, which callers read and follow. It is one line of 2,000 characters at most (control
    /// characters become blanks, the rest is cut); the newest 1,000 of a job are kept. Of more than 100 lines a second the
    /// rest is left out, and a line says how many. It comes before the outcome of the run, also if written last.
    pub fn log(&self, level: LogLevel, text: impl AsRef<str>) {
        self.inner.host.log(LogEntry::new(level, text.as_ref()));
    }

    /// Whether the run must stop. Check it often: what does not stop by itself is stopped by force after a moment.
    pub fn is_cancelled(&self) -> bool {
        self.inner.stop.reason().is_some()
    }

    /// Whether a caller cancelled the job; otherwise, a run that must stop will be followed by another.
    pub fn is_cancelled_for_good(&self) -> bool {
        self.inner.stop.reason() == Some(Stop::Cancelled)
    }

    /// Waits until the run must stop.
    pub async fn cancelled(&self) {
        self.inner.stop.fired().await;
    }

    /// Where the content of a stored file can be read.
    ///
    /// # Errors
    /// A permanent failure `unknown_file` if there is none.
    pub async fn input(&self, file: BlobId) -> Result<InputFile, Failure> {
        self.inner.host.input(file).await
    }

    /// A stored file, which another job made, as one that whoever submitted this job may see: itself if that is so already,
    /// else a new one of the same content.
    ///
    /// # Errors
    /// A permanent failure `unknown_file` if there is none, or it still grows; a retryable one `disk_full`,
    /// `storage_failed` or `queue_unavailable`.
    pub async fn share(&self, file: BlobId) -> Result<BlobId, Failure> {
        Ok(self.inner.host.share(file, None).await?.id)
    }

    /// A stored file, which another job made, as a new one of this job with a name of its own: it tells nothing of what the
    /// other was called, and lives as long as what this job stores.
    ///
    /// # Errors
    /// As [`Context::share`].
    pub async fn share_as(&self, file: &Artifact, name: impl Into<String>) -> Result<Artifact, Failure> {
        let Shared { id, name } = self.inner.host.share(file.file, Some(name.into())).await?;
        Ok(Artifact { file: id, name, ..file.clone() })
    }

    /// A stored file that grows while the run appends to it, and can be read meanwhile. `again` names the one that an
    /// earlier run made; if it is gone, a new one is made. A run that gives up discards it.
    ///
    /// # Errors
    /// A retryable failure `disk_full` or `storage_failed`.
    pub async fn grow(
        &self,
        again: Option<BlobId>,
        name: impl Into<String>,
        media_type: impl Into<String>,
    ) -> Result<GrowingFile, Failure> {
        self.inner.host.grow(NewGrowing { again, name: name.into(), media_type: media_type.into() }).await
    }

    /// Removes a file that grew.
    ///
    /// # Errors
    /// A retryable failure `storage_failed`.
    pub async fn discard(&self, file: BlobId) -> Result<(), Failure> {
        self.inner.host.discard(file).await
    }

    /// The secret that the operator keeps under `name`, a plain file name. Payloads hold such names, never secrets.
    ///
    /// # Errors
    /// The job is parked as `not_configured` if there is none.
    pub async fn secret(&self, name: &str) -> Result<String, Failure> {
        self.inner.host.secret(name.to_owned()).await
    }

    /// Whose the job is. Asked for at the first call, and remembered.
    ///
    /// # Errors
    /// A retryable failure `queue_unavailable` or `lease_lost`.
    pub async fn tenant(&self) -> Result<Option<TenantName>, Failure> {
        self.inner.host.tenant().await
    }

    /// The jobs that this one has waited for, in the order in which it names them: how each ended, with its result or
    /// error. Read when asked for.
    ///
    /// # Errors
    /// A retryable failure `queue_unavailable`.
    pub async fn parents(&self) -> Result<Vec<Parent>, Failure> {
        self.inner.host.parents().await
    }

    /// A job to be made by this run, which inherits its correlation id. `name` tells it from the others that this job
    /// makes: a run that is repeated makes no second one.
    pub fn enqueue<K: JobKind>(&self, name: &str, payload: &K) -> ChildJob<'_> {
        ChildJob::new(self, name, payload)
    }

    pub(crate) fn host(&self) -> &dyn Host {
        &*self.inner.host
    }

    /// Stores a finished file of the scratch folder for good. `role` says what it is to the job (`audio`), `name` is
    /// what people save it under.
    ///
    /// # Errors
    /// A retryable failure `disk_full` or `storage_failed`.
    pub async fn store(
        &self,
        path: &Path,
        role: impl Into<String>,
        name: impl Into<String>,
        media_type: impl Into<String>,
    ) -> Result<Artifact, Failure> {
        let file =
            NewFile { path: path.to_owned(), role: role.into(), name: name.into(), media_type: media_type.into() };
        self.inner.host.store(file).await
    }
}

pub(crate) fn scratch_failure(error: &std::io::Error) -> Failure {
    Failure::retry("scratch_failed", "no folder could be made for the run").because(error)
}
