//! What the jobs do, and the worker that does it.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use fourmi_kinds::JobKind;
use fourmi_model::{Backoff, Failure, Isolation, Policy};
use fourmi_runtime::{Context, Worker};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::journal::{Journal, now};

pub(super) const QUEUE: &str = "chaos";

/// Takes some time, and writes down what it does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Work {
    /// Where its effects are written down.
    pub(super) effects: PathBuf,
    /// How long it takes.
    pub(super) ms: u64,
    /// Attempts that fail.
    pub(super) fail: u32,
    /// Runs that take their process down, if they have one of their own.
    pub(super) crash: u64,
}

/// The same in a child process.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub(super) struct WorkInChild(pub(super) Work);

/// Who says that the work is done.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(super) struct Done {
    pub(super) run: u64,
}

impl JobKind for Work {
    const NAME: &'static str = "chaos.work";
    const QUEUE: &'static str = QUEUE;
    const SUMMARY: &'static str = "Takes some time.";
    type Output = Done;

    fn policy() -> Policy {
        let backoff = Backoff { base: Duration::from_millis(100), cap: Duration::from_millis(400) };
        Policy { attempts: Some(5), backoff, stop_grace: Duration::from_millis(500), ..Policy::default() }
    }
}

impl JobKind for WorkInChild {
    const NAME: &'static str = "chaos.work_in_child";
    const QUEUE: &'static str = QUEUE;
    const SUMMARY: &'static str = "Takes some time in a child process.";
    type Output = Done;

    fn policy() -> Policy {
        Policy { isolation: Isolation::Process { memory_bytes: 64 << 20 }, ..Work::policy() }
    }
}

/// Something that a run did to the world.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Effect {
    pub(super) at: i64,
    pub(super) job: Uuid,
    pub(super) run: u64,
    /// The process of the handler.
    pub(super) pid: u32,
    pub(super) what: Deed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Deed {
    Started,
    Stopped,
    Failed,
    Crashes,
    Ended,
}

pub(super) fn worker() -> ExitCode {
    Worker::new(QUEUE)
        .kind::<Work, _, _>(async |job, context| work(job, context, false).await)
        .kind::<WorkInChild, _, _>(async |job: WorkInChild, context| work(job.0, context, true).await)
        .main()
}

async fn work(job: Work, context: Context, in_child: bool) -> Result<Done, Failure> {
    let (run, journal) = (context.run(), Journal::open(&job.effects));
    let note = |what| {
        journal.write(&Effect { at: now(), job: context.job_id().uuid(), run, pid: std::process::id(), what });
    };
    note(Deed::Started);
    tokio::select! {
        () = tokio::time::sleep(Duration::from_millis(job.ms)) => {}
        () = context.cancelled() => {
            note(Deed::Stopped);
            return Err(Failure::cancelled());
        }
    }
    if in_child && run <= job.crash {
        note(Deed::Crashes);
        std::process::abort();
    }
    if context.attempt() <= job.fail {
        note(Deed::Failed);
        return Err(Failure::retry("told_to", format!("run {run} fails as it was told")));
    }
    note(Deed::Ended);
    Ok(Done { run })
}
