//! Following a job to its end, in front of someone's eyes.

use fourmi_client::{Client, Update};
use fourmi_model::{Job, JobId, State};
use futures_util::StreamExt;
use serde_json::json;

use crate::{
    exit::{Exit, Stop},
    print,
    progress::Progress,
    session::{Session, unless_interrupted},
};

/// How the way of a job is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Telling {
    /// Progress for a person, on standard error.
    Progress,
    /// Every update as a line of JSON, on standard output.
    Lines,
}

/// Follows a job until it is over. When it is interrupted the job goes on, and this says so.
pub(crate) async fn follow(
    session: &Session,
    client: &Client,
    id: &JobId,
    progress: &Progress,
    telling: Telling,
) -> anyhow::Result<Job> {
    let watching = unless_interrupted(to_the_end(client, id, progress, telling)).await?;
    progress.clear();
    match watching {
        Some(job) => job,
        None => {
            session.note("");
            Err(Stop::interrupted(format!(
                "stopped watching; the job goes on.\n  fourmi watch {id}    follows it again\n  fourmi fetch {id}    saves its files once it is done\n  fourmi cancel {id}   stops it"
            )))
        }
    }
}

async fn to_the_end(client: &Client, id: &JobId, progress: &Progress, telling: Telling) -> anyhow::Result<Job> {
    let mut updates = client.events(id);
    let mut last = None;
    while let Some(update) = updates.next().await {
        let update = update?;
        if telling == Telling::Lines {
            print::json_line(&as_json(&update))?;
        }
        match update {
            Update::Snapshot(job) | Update::State(job) => {
                progress.job(&job);
                last = Some(*job);
            }
            Update::Progress { progress: far, .. } => progress.run(&far),
            Update::Interrupted { reason, .. } => progress.wait("the API is away", &print::one_line(&reason)),
        }
    }
    match last {
        Some(job) if job.state.is_final() => Ok(job),
        // The stream gives the end of a job or an error; so much for what cannot be.
        _ => Ok(client.wait(id).await?),
    }
}

fn as_json(update: &Update) -> serde_json::Value {
    match update {
        Update::Snapshot(job) => json!({"event": "snapshot", "job": job}),
        Update::State(job) => json!({"event": "state", "job": job}),
        Update::Progress { version, run, progress } => {
            json!({"event": "progress", "version": version, "run": run, "progress": progress})
        }
        Update::Interrupted { reason, again_in } => {
            json!({"event": "interrupted", "reason": reason, "again_in_ms": again_in.as_millis() as u64})
        }
    }
}

/// Says how a job ended that did not succeed, and what can be done.
pub(crate) fn tell_end(job: &Job) -> Exit {
    let id = &job.id;
    match (job.state, &job.error) {
        (State::Failed, Some(error)) => {
            let message = print::one_line(error.message.trim_end_matches('.'));
            print::to_stderr(&format!("fourmi: the job failed: {message} ({}).", error.code));
            let retry = if error.retryable { format!("\n  fourmi retry {id}   runs it again") } else { String::new() };
            print::to_stderr(&format!("  fourmi job {id}     shows its runs{retry}"));
        }
        (State::Failed, None) => print::to_stderr(&format!("fourmi: the job failed; `fourmi job {id}` shows more.")),
        (State::Cancelled, _) => print::to_stderr("fourmi: the job was cancelled."),
        _ => {}
    }
    Exit::of(job.state)
}
