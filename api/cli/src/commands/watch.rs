//! `fourmi watch`: following one job, a batch, or all jobs.

use clap::Args;
use fourmi_client::{EventQuery, JobsUpdate, JobsUpdates};
use fourmi_model::{Job, JobId, KindName, QueueName, State};
use futures_util::StreamExt;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    commands::{jobs::note, submit},
    exit::{Exit, Stop},
    follow, print,
    progress::Progress,
    session::{Session, unless_interrupted},
};

/// Which jobs.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fourmi watch media-…                        one job, until it is over
  fourmi watch --batch media-…                a batch and its jobs, until the batch is over
  fourmi watch --tag talks --state failed     what fails from now on, until you press Ctrl-C")]
pub(crate) struct WatchArguments {
    /// Id of the job; without one, all jobs are followed that the options want
    #[arg(conflicts_with_all = ["batch", "state", "kind", "queue", "tag"])]
    id: Option<JobId>,
    /// A batch and its jobs, by its id or that of one of them
    #[arg(long, value_name = "ID", conflicts_with_all = ["state", "kind", "queue", "tag"])]
    batch: Option<JobId>,
    /// Only jobs that enter this state; may be given several times
    #[arg(long, short, value_name = "STATE")]
    state: Vec<State>,
    /// Only jobs of this kind
    #[arg(long, short, value_name = "KIND")]
    kind: Option<KindName>,
    /// Only jobs in this queue
    #[arg(long, value_name = "QUEUE")]
    queue: Option<QueueName>,
    /// Only jobs with this label
    #[arg(long, short, value_name = "TAG")]
    tag: Option<String>,
}

pub(crate) async fn run(session: &Session, arguments: WatchArguments) -> anyhow::Result<Exit> {
    let client = session.client()?;
    let WatchArguments { id, batch, state: states, kind, queue, tag } = arguments;
    if let Some(id) = id {
        return submit::watch(session, &client, &id).await;
    }
    let updates = match &batch {
        Some(batch) => client.batch_events(batch),
        None => client.jobs_events(&EventQuery { states, kind, queue, tag, tenant: None }),
    };
    let progress = session.progress();
    let watched = unless_interrupted(tell_all(session, updates, &progress)).await?;
    progress.clear();
    match (watched, batch) {
        (Some(Ok(Some(end))), _) if session.json() => Ok(Exit::of(end.state)),
        (Some(Ok(Some(end))), _) => Ok(follow::tell_end(&end)),
        (Some(Ok(None)), _) => Ok(Exit::Done),
        (Some(Err(error)), _) => Err(error),
        (None, Some(batch)) => {
            let again = format!("  fourmi watch --batch {batch}    follows it again");
            Err(Stop::interrupted(format!("stopped watching; the batch goes on.\n{again}")))
        }
        (None, None) => Err(Stop::interrupted("stopped watching; the jobs go on.")),
    }
}

/// Tells everything that happens, and gives the job that was told last if it is over: the batch that was followed.
async fn tell_all(session: &Session, mut updates: JobsUpdates, progress: &Progress) -> anyhow::Result<Option<Job>> {
    let mut last = None;
    while let Some(update) = updates.next().await {
        let update = update?;
        if session.json() {
            print::json_line(&as_json(&update))?;
        }
        match update {
            JobsUpdate::Snapshot(job) | JobsUpdate::State(job) => {
                if !session.json() {
                    print::line(&line(&job))?;
                }
                last = Some(*job);
            }
            // Of a batch; what all runs do would be too much to read.
            JobsUpdate::Progress { run: 0, progress: far, .. } => progress.run(&far),
            JobsUpdate::Live { more: true, .. } => session.note("There are more; `fourmi jobs` lists them."),
            JobsUpdate::Gap { since, missed, .. } => session.note(&gap(&since, missed)),
            JobsUpdate::Interrupted { reason, .. } => progress.wait("the API is away", &print::one_line(&reason)),
            JobsUpdate::Progress { .. } | JobsUpdate::Live { .. } => {}
        }
    }
    Ok(last.filter(|job| job.state.is_final()))
}

/// A job as it is now.
fn line(job: &Job) -> String {
    let time = print::time_of_day(Timestamp::now());
    let text = format!("{time}  {}  {:<20}  {}", job.id, job.kind, print::state(job.state));
    match note(job) {
        note if note.is_empty() => text,
        note => format!("{text}  {}", print::one_line(&note)),
    }
}

fn gap(since: &str, missed: Option<u64>) -> String {
    let count = missed.map(|count| format!(" ({count} changes)")).unwrap_or_default();
    format!("Something was missed since {}{count}; what can be made up for follows.", print::one_line(since))
}

fn as_json(update: &JobsUpdate) -> Value {
    match update {
        JobsUpdate::Snapshot(job) => json!({"event": "snapshot", "job": job}),
        JobsUpdate::State(job) => json!({"event": "state", "job": job}),
        JobsUpdate::Live { jobs, more } => json!({"event": "live", "jobs": jobs, "more": more}),
        JobsUpdate::Progress { id, version, run, progress } => {
            json!({"event": "progress", "id": id, "version": version, "run": run, "progress": progress})
        }
        JobsUpdate::Gap { since, missed, reason } => {
            json!({"event": "gap", "since": since, "missed": missed, "reason": reason})
        }
        JobsUpdate::Interrupted { reason, again_in } => {
            json!({"event": "interrupted", "reason": reason, "again_in_ms": again_in.as_millis() as u64})
        }
    }
}
