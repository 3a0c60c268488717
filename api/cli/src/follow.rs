//! Following a job to its end, in front of someone's eyes.

use fourmi_client::{Client, Update};
use fourmi_model::{BlobId, Job, JobId, LogLevel, State};
use futures_util::StreamExt;
use serde_json::json;

use crate::{
    exit::{Exit, Stop},
    hints, print,
    progress::Progress,
    session::{Session, unless_interrupted},
};

/// How the way of a job is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Telling {
    /// Progress for a person and what the job warns of, on standard error.
    Progress,
    /// Progress for a person and every line of the job's log, on standard error.
    ProgressAndLog,
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
    let watching = unless_interrupted(to_the_end(session, client, id, progress, telling, &mut None)).await?;
    progress.clear();
    watching.unwrap_or_else(|| Err(goes_on(session, id)))
}

/// Follows a job that keeps what it has when it is told to stop, as it is when this is interrupted; a second time, the
/// watching stops.
pub(crate) async fn follow_or_stop(
    session: &Session,
    client: &Client,
    id: &JobId,
    progress: &Progress,
) -> anyhow::Result<Job> {
    let mut growing = None;
    let watching = to_the_end(session, client, id, progress, Telling::Progress, &mut growing);
    let watched = unless_interrupted(watching).await?;
    progress.clear();
    if let Some(job) = watched {
        return job;
    }
    session.note("\nStopping; what was recorded is kept and finished. Ctrl-C again leaves the job to itself.");
    match client.cancel(id).await {
        // It was over at that moment: there is its end to be told.
        Err(error) if error.problem().is_some_and(|problem| problem.code == "already_over") => {}
        other => {
            other?;
        }
    }
    let watching = to_the_end(session, client, id, progress, Telling::Progress, &mut growing);
    let watched = unless_interrupted(watching).await?;
    progress.clear();
    watched.unwrap_or_else(|| Err(goes_on(session, id)))
}

fn goes_on(session: &Session, id: &JobId) -> anyhow::Error {
    session.note("");
    Stop::interrupted(format!(
        "stopped watching; the job goes on.\n  fourmi watch {id}    follows it again\n  fourmi fetch {id}    saves its files once it is done\n  fourmi cancel {id}   stops it"
    ))
}

async fn to_the_end(
    session: &Session,
    client: &Client,
    id: &JobId,
    progress: &Progress,
    telling: Telling,
    growing: &mut Option<BlobId>,
) -> anyhow::Result<Job> {
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
                tell_growing(session, growing, job.progress.as_ref());
                last = Some(*job);
            }
            Update::Progress { progress: far, .. } => {
                progress.run(&far);
                tell_growing(session, growing, Some(&far));
            }
            Update::Log { line, missed } => {
                let wanted = telling == Telling::ProgressAndLog || line.level > LogLevel::Info;
                if telling != Telling::Lines && wanted {
                    session.note(&crate::commands::log::as_text(&line, missed));
                }
            }
            Update::Interrupted { reason, .. } => progress.wait("the API is away", &print::one_line(&reason)),
        }
    }
    match last {
        Some(job) if job.state.is_final() => Ok(job),
        // The stream gives the end of a job or an error; so much for what cannot be.
        _ => Ok(client.wait(id).await?),
    }
}

/// Says once which file can be read already.
fn tell_growing(session: &Session, told: &mut Option<BlobId>, progress: Option<&fourmi_model::Progress>) {
    let file = progress.and_then(|progress| progress.file);
    if let Some(file) = file.filter(|file| *told != Some(*file)) {
        session.note(&format!("{file} grows and can be read already; `fourmi link {file}` gives its address."));
        *told = Some(file);
    }
}

pub(crate) fn as_json(update: &Update) -> serde_json::Value {
    match update {
        Update::Snapshot(job) => json!({"event": "snapshot", "job": job}),
        Update::State(job) => json!({"event": "state", "job": job}),
        Update::Progress { version, run, progress } => {
            json!({"event": "progress", "version": version, "run": run, "progress": progress})
        }
        Update::Log { line, missed } => json!({"event": "log", "line": line, "missed": missed}),
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
            if let Some(hint) = hints::hint(&error.code) {
                print::to_stderr(&format!("  {hint}"));
            }
            let retry = if error.retryable { format!("\n  fourmi retry {id}   runs it again") } else { String::new() };
            print::to_stderr(&format!("  fourmi job {id}     shows its runs{retry}"));
        }
        (State::Failed, None) => print::to_stderr(&format!("fourmi: the job failed; `fourmi job {id}` shows more.")),
        (State::Cancelled, _) => print::to_stderr("fourmi: the job was cancelled."),
        _ => {}
    }
    Exit::of(job.state)
}
