//! `fourmi queues`, `pause`, `resume`, `cap`, `obliterate`: queues as a whole.

use clap::Args;
use fourmi_client::{QueueDocument, QueuePatch};
use fourmi_model::{QueueName, State};
use jiff::Timestamp;
use serde_json::json;

use crate::{
    commands::dead::jobs_of,
    exit::Exit,
    print::{self, Table},
    session::Session,
};

/// Which queues.
#[derive(Debug, Args)]
pub(crate) struct QueuesArguments {
    /// Name of the queue; all without
    queue: Option<QueueName>,
}

/// Which queue.
#[derive(Debug, Args)]
pub(crate) struct OneQueue {
    /// Name of the queue
    queue: QueueName,
}

/// How many jobs may run.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fourmi cap media 4
  fourmi cap media none")]
pub(crate) struct CapArguments {
    /// Name of the queue
    queue: QueueName,
    /// Running jobs at most, of all worker processes together, or none
    #[arg(value_name = "N|none", value_parser = number_or_none)]
    cap: Cap,
}

/// A number, or none.
#[derive(Debug, Clone, Copy)]
struct Cap(Option<u32>);

fn number_or_none(text: &str) -> Result<Cap, String> {
    match text {
        "none" => Ok(Cap(None)),
        number => number.parse().map(|number| Cap(Some(number))).map_err(|_| "say a number, or none".to_owned()),
    }
}

/// Which queue to delete everything in.
#[derive(Debug, Args)]
#[command(after_help = "\
Told once, nothing is deleted: it says what would be lost, and the token to say it again with.

Examples:
  fourmi obliterate media
  fourmi obliterate media --yes-delete-everything 5f0c…")]
pub(crate) struct ObliterateArguments {
    /// Name of the queue
    queue: QueueName,
    /// Delete everything; the token is the one that this command gave less than a minute ago
    #[arg(long, value_name = "TOKEN")]
    yes_delete_everything: Option<String>,
    /// Also while jobs run: their runs are stopped, and what they give is lost
    #[arg(long)]
    force: bool,
}

pub(crate) async fn list(session: &Session, arguments: QueuesArguments) -> anyhow::Result<Exit> {
    let client = session.client()?;
    let queues = match &arguments.queue {
        Some(queue) => vec![client.queue(queue).await?],
        None => client.queues().await?,
    };
    if session.json() {
        print::json(&json!({"queues": queues}))?;
    } else {
        print_table(&queues)?;
    }
    Ok(Exit::Done)
}

/// The columns of states that a queue may hold jobs in, beside running ones.
const STATES: [State; 6] =
    [State::Waiting, State::Scheduled, State::Retrying, State::Blocked, State::Parked, State::Failed];

fn print_table(queues: &[QueueDocument]) -> anyhow::Result<()> {
    let head = ["QUEUE", "WAITING", "SCHEDULED", "RETRYING", "BLOCKED", "PARKED", "FAILED", "RUNNING", "SLOTS"];
    let mut table = Table::new(&[&head[..], &["WORKERS", "OLDEST", "NOTE"]].concat());
    let now = Timestamp::now();
    for queue in queues {
        let count = |state| queue.counts.get(&state).copied().unwrap_or(0);
        let running = count(State::Running);
        let mut row = vec![queue.name.to_string()];
        row.extend(STATES.map(|state| count(state).to_string()));
        row.push(queue.cap.map_or_else(|| running.to_string(), |cap| format!("{running}/{cap}")));
        row.push(
            queue.slots.map_or_else(|| queue.worker_slots.to_string(), |all| format!("{}/{all}", queue.worker_slots)),
        );
        row.push(queue.workers.to_string());
        let oldest: Option<Timestamp> = queue.oldest_waiting_at.as_ref().and_then(|then| then.parse().ok());
        row.push(oldest.map(|then| print::rough(print::between(then, now))).unwrap_or_default());
        row.push(note(queue));
        table.row(row);
    }
    table.print()
}

fn note(queue: &QueueDocument) -> String {
    let paused = queue.paused.then(|| "paused".to_owned());
    let limit = queue.limit.map(|limit| format!("takes {limit} waiting at most"));
    paused.into_iter().chain(limit).collect::<Vec<_>>().join("; ")
}

pub(crate) async fn pause(session: &Session, arguments: OneQueue) -> anyhow::Result<Exit> {
    let patch = QueuePatch { paused: Some(true), ..QueuePatch::default() };
    steer(session, &arguments.queue, patch, "is paused: nothing more is started, and what runs goes on").await
}

pub(crate) async fn resume(session: &Session, arguments: OneQueue) -> anyhow::Result<Exit> {
    let patch = QueuePatch { paused: Some(false), ..QueuePatch::default() };
    steer(session, &arguments.queue, patch, "goes on").await
}

pub(crate) async fn cap(session: &Session, arguments: CapArguments) -> anyhow::Result<Exit> {
    let Cap(cap) = arguments.cap;
    let text = match cap {
        Some(cap) => format!("runs {} at a time at most", jobs_of(cap.into())),
        None => "runs as many jobs at a time as its workers have slots".to_owned(),
    };
    let patch = QueuePatch { cap: Some(cap), ..QueuePatch::default() };
    steer(session, &arguments.queue, patch, &text).await
}

async fn steer(session: &Session, queue: &QueueName, patch: QueuePatch, text: &str) -> anyhow::Result<Exit> {
    let document = session.client()?.steer_queue(queue, &patch).await?;
    if session.json() {
        print::json(&document)?;
    } else {
        print::line(&format!("{queue} {text}."))?;
    }
    Ok(Exit::Done)
}

pub(crate) async fn obliterate(session: &Session, arguments: ObliterateArguments) -> anyhow::Result<Exit> {
    let ObliterateArguments { queue, yes_delete_everything: token, force } = arguments;
    let answer = session.client()?.obliterate(&queue, token.as_deref(), force).await?;
    if session.json() {
        print::json(&answer)?;
        return Ok(Exit::Done);
    }
    if answer.done {
        print::line(&format!("Everything in {queue} is deleted."))?;
        return Ok(Exit::Done);
    }
    let counts = answer.counts.unwrap_or_default();
    let all = jobs_of(counts.values().sum());
    let states: Vec<_> =
        counts.iter().filter(|(_, count)| **count > 0).map(|(state, count)| format!("{count} {state}")).collect();
    let states = if states.is_empty() { String::new() } else { format!(" ({})", states.join(", ")) };
    print::line(&format!("{queue} holds {all}{states}. All of it would be deleted for good."))?;
    let force = if force { " --force" } else { "" };
    print::line(&format!(
        "Nothing is deleted yet. Within {} seconds, this deletes it:\n  fourmi obliterate {queue}{force} --yes-delete-everything {}",
        answer.valid_for_s.unwrap_or_default(),
        answer.token.unwrap_or_default()
    ))?;
    Ok(Exit::Done)
}
