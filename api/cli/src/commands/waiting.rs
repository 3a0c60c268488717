//! `fourmi why`, `promote`, `priority`: jobs that have not started.

use clap::Args;
use fourmi_client::Promoted;
use fourmi_model::{Block, EstimatedStart, JobId, NoEstimate, Priority, Why};
use jiff::Timestamp;
use serde_json::json;

use crate::{
    arguments::OneJob,
    commands::dead::{jobs_are, jobs_of},
    exit::Exit,
    print,
    session::Session,
};

/// The most jobs that the API takes in one call.
const MOST_IDS: usize = 1_000;

/// Which jobs to let run now.
#[derive(Debug, Args)]
pub(crate) struct PromoteArguments {
    /// Ids of the jobs
    #[arg(required = true)]
    ids: Vec<JobId>,
}

/// Which jobs, and how urgent they are.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fourmi priority media-… urgent")]
pub(crate) struct PriorityArguments {
    /// Ids of the jobs
    #[arg(required = true)]
    ids: Vec<JobId>,
    /// How urgent they are from now on: urgent, high, normal or low
    priority: Priority,
}

pub(crate) async fn why(session: &Session, arguments: OneJob) -> anyhow::Result<Exit> {
    let why = session.client()?.why(&arguments.id).await?;
    if session.json() {
        print::json(&why)?;
        return Ok(Exit::Done);
    }
    let now = Timestamp::now();
    print::line(&format!("{} is {}.", why.job, why.state))?;
    if why.blocks.is_empty() {
        print::line("Nothing holds it back.")?;
    }
    for block in &why.blocks {
        print::line(&print::one_line(&sentence(block, &why, now)))?;
    }
    match (&why.estimated_start, why.no_estimate) {
        (Some(start), _) => print::line(&estimate(start, now)),
        (None, Some(reason)) => no_estimate(reason).map_or(Ok(()), print::line),
        (None, None) => Ok(()),
    }?;
    Ok(Exit::Done)
}

/// One thing that holds a job back, for a person.
fn sentence(block: &Block, why: &Why, now: Timestamp) -> String {
    let within = |time: Timestamp| print::rough(print::between(now, time));
    match block {
        Block::Finished => format!("It is over: {}.", why.state),
        Block::Running { worker, since } => {
            format!("It runs in {worker} for {}.", print::rough(print::between(*since, now)))
        }
        Block::Paused => format!("Its queue is paused; `fourmi resume {}` lets it go on.", why.job.queue()),
        Block::NotDue { until } => format!("It is not due for {} ({until:.0}).", within(*until)),
        Block::Retrying { until, error } => {
            let error = error.as_ref().map(|error| format!(": {}", error.message)).unwrap_or_default();
            format!("Its last run failed; it is tried again in {}{error}.", within(*until))
        }
        Block::BlockedBy { count, jobs } => {
            let named: Vec<_> = jobs
                .iter()
                .map(|parent| match parent.state {
                    Some(state) => format!("{} ({state})", parent.job),
                    None => format!("{} (forgotten)", parent.job),
                })
                .collect();
            format!("It waits for {}: {}{}.", jobs_of(*count), named.join(", "), and_more(*count, jobs.len()))
        }
        Block::Parked { parked_reason, released_by } => {
            format!("It is parked ({parked_reason}) until {released_by}.")
        }
        Block::NoWorker { workers, .. } if workers.is_empty() => {
            format!("No worker of the queue {} lives.", why.job.queue())
        }
        Block::NoWorker { kind, schema_version, workers } => {
            let older: Vec<_> = workers.iter().filter_map(|it| Some((&it.worker, it.schema_version?))).collect();
            let older: Vec<_> = older.iter().map(|(worker, version)| format!("{worker} up to {version}")).collect();
            let known = if older.is_empty() { "none knows the kind".to_owned() } else { older.join(", ") };
            format!("No live worker knows {kind} in version {schema_version}: {known}.")
        }
        Block::CapReached { cap, running } => {
            format!("Its queue runs {} at a time at most, and {running} run (`fourmi cap`).", jobs_of(*cap))
        }
        Block::NoFreeSlot { slots, workers } => {
            let busy: Vec<_> = workers.iter().map(|it| format!("{} {}/{}", it.worker, it.busy, it.slots)).collect();
            format!("All {slots} slots are taken: {}.", busy.join(", "))
        }
        Block::LimitReached { limit, holders, until, .. } => {
            let held: Vec<_> = holders.iter().map(ToString::to_string).collect();
            let held = if held.is_empty() { String::new() } else { format!(", held by {}", held.join(", ")) };
            let until = until.map(|until| format!("; it allows the next in {}", within(until))).unwrap_or_default();
            format!("The limit {limit} is reached{held}{until}.")
        }
        Block::Suspect { ahead } => {
            let before = if *ahead > 0 { format!(", after {} of its like", jobs_of(*ahead)) } else { String::new() };
            format!(
                "Its last run may have taken its worker down: it waits for a worker that runs nothing else{before}."
            )
        }
        Block::InLane { tenant, priority, ahead, or_more, lanes } => {
            let whose = tenant.as_ref().map(|tenant| format!(" of {tenant}")).unwrap_or_default();
            let more = if *or_more { " or more" } else { "" };
            let turns = match lanes {
                0 => String::new(),
                1 => "; another lane takes turns with it".to_owned(),
                lanes => format!("; {lanes} other lanes take turns with it"),
            };
            format!("{}{more} before it in the {priority} lane{whose}{turns}.", jobs_of(*ahead))
        }
        _ => "Something holds it back that this version has no words for: see it with --json.".to_owned(),
    }
}

fn and_more(count: u64, named: usize) -> String {
    match count.saturating_sub(named as u64) {
        0 => String::new(),
        more => format!(" and {more} more"),
    }
}

fn estimate(start: &EstimatedStart, now: Timestamp) -> String {
    let within = |time| print::rough(print::between(now, time));
    let (low, at, high) = (within(start.low), within(start.at), within(start.high));
    if start.high <= now { "It starts now.".to_owned() } else { format!("It starts in about {at} ({low} to {high}).") }
}

/// Why there is no estimate, where the blocks do not say it.
fn no_estimate(reason: NoEstimate) -> Option<&'static str> {
    match reason {
        NoEstimate::Started | NoEstimate::Finished => None,
        NoEstimate::NoRecentStarts => {
            Some("Nobody can tell when it starts: no job of its queue has started in the last minute.")
        }
        _ => Some("Nobody can tell when it starts."),
    }
}

pub(crate) async fn promote(session: &Session, arguments: PromoteArguments) -> anyhow::Result<Exit> {
    let client = session.client()?;
    let mut ids = arguments.ids;
    ids.sort();
    ids.dedup();
    let mut total = Promoted::default();
    for same_queue in ids.chunk_by(|one, other| one.queue() == other.queue()) {
        for ids in same_queue.chunks(MOST_IDS) {
            let promoted = client.promote(ids[0].queue(), ids).await?;
            total = Promoted { matched: total.matched + promoted.matched, done: total.done + promoted.done };
        }
    }
    if session.json() {
        print::json(&json!({"action": "promote", "matched": total.matched, "done": total.done}))?;
    } else {
        let others = ids.len() as u64 - total.done;
        let rest = match others {
            0 => String::new(),
            1 => "; 1 was not delayed".to_owned(),
            _ => format!("; {others} were not delayed"),
        };
        print::line(&format!("{}{rest}.", jobs_are(total.done, "ready to run")))?;
    }
    Ok(Exit::Done)
}

pub(crate) async fn priority(session: &Session, arguments: PriorityArguments) -> anyhow::Result<Exit> {
    let client = session.client()?;
    let mut jobs = Vec::with_capacity(arguments.ids.len());
    for id in &arguments.ids {
        let job = client.set_priority(id, arguments.priority).await?;
        if !session.json() {
            print::line(&format!("{id} is {} now.", job.priority))?;
        }
        jobs.push(job);
    }
    if session.json() {
        print::json(&json!({"jobs": jobs}))?;
    }
    Ok(Exit::Done)
}
