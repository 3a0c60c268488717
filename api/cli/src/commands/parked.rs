//! `fourmi parked`: jobs that wait for a cause to go away.

use clap::{Args, Subcommand};
use fourmi_client::JobQuery;
use fourmi_model::{JobId, ParkReason, QueueName, State};
use serde_json::json;

use crate::{
    commands::{
        dead::{jobs_are, jobs_of},
        jobs,
    },
    exit::{Exit, Stop},
    print,
    session::Session,
};

/// What to do with parked jobs.
#[derive(Debug, Subcommand)]
pub(crate) enum ParkedCommand {
    /// List parked jobs
    List(ListArguments),
    /// Let parked jobs run: what they waited for is there
    Release(ReleaseArguments),
}

/// Which parked jobs to list.
#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// Only those that wait for this: not_configured, offline, provider_down or uncertain
    #[arg(long, short, value_name = "REASON")]
    reason: Option<ParkReason>,
    /// Only jobs in this queue
    #[arg(long, value_name = "QUEUE")]
    queue: Option<QueueName>,
    /// The most jobs to list
    #[arg(long, short = 'n', value_name = "N", default_value_t = 50, conflicts_with = "all")]
    limit: usize,
    /// List all, however many
    #[arg(long, short)]
    all: bool,
}

/// Which parked jobs to let run.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fourmi parked release --reason provider_down
  fourmi parked release media-…")]
pub(crate) struct ReleaseArguments {
    /// Ids of the jobs; without, --reason or --all says which
    #[arg(conflicts_with_all = ["reason", "queue", "all"])]
    ids: Vec<JobId>,
    /// Those that wait for this: not_configured, offline, provider_down or uncertain
    #[arg(long, short, value_name = "REASON", conflicts_with = "all")]
    reason: Option<ParkReason>,
    /// Only jobs in this queue
    #[arg(long, value_name = "QUEUE")]
    queue: Option<QueueName>,
    /// Whatever they wait for
    #[arg(long, short)]
    all: bool,
}

pub(crate) async fn run(session: &Session, command: ParkedCommand) -> anyhow::Result<Exit> {
    match command {
        ParkedCommand::List(arguments) => list(session, arguments).await,
        ParkedCommand::Release(arguments) => release(session, arguments).await,
    }
}

async fn list(session: &Session, arguments: ListArguments) -> anyhow::Result<Exit> {
    let wanted = if arguments.all { usize::MAX } else { arguments.limit };
    let query = JobQuery {
        states: vec![State::Parked],
        queue: arguments.queue,
        parked_reason: arguments.reason,
        ..JobQuery::default()
    };
    jobs::list_them(session, &session.client()?, query, wanted, jobs::print_table).await
}

async fn release(session: &Session, arguments: ReleaseArguments) -> anyhow::Result<Exit> {
    let released = if arguments.ids.is_empty() {
        release_by_reason(session, arguments).await?
    } else {
        release_each(session, &arguments.ids).await?
    };
    if session.json() {
        print::json(&json!({"action": "release", "released": released}))?;
    } else {
        print::line(&format!("{}.", jobs_are(released, "ready to run")))?;
    }
    Ok(Exit::Done)
}

async fn release_each(session: &Session, ids: &[JobId]) -> anyhow::Result<u64> {
    let client = session.client()?;
    let mut released = 0;
    for id in ids {
        let job = client.job(id).await?;
        if job.state != State::Parked {
            return Err(Stop::usage(format!(
                "{id} is {}, not parked; {} before it",
                job.state,
                jobs_are(released, "released")
            )));
        }
        client.retry(id).await?;
        released += 1;
    }
    Ok(released)
}

async fn release_by_reason(session: &Session, arguments: ReleaseArguments) -> anyhow::Result<u64> {
    let reasons = match arguments.reason {
        Some(reason) => vec![reason],
        None if arguments.all => ParkReason::ALL.to_vec(),
        None => return Err(Stop::usage("say which parked jobs: their ids, --reason REASON or --all")),
    };
    let client = session.client()?;
    let queues = match arguments.queue {
        Some(queue) => vec![queue],
        None => client.queues().await?.into_iter().map(|queue| queue.name).collect(),
    };
    let progress = session.progress();
    let mut total = 0;
    for queue in &queues {
        for reason in &reasons {
            let mut steps = client.unpark(queue, *reason);
            let before = total;
            while let Some(released) = steps.step().await? {
                total = before + released;
                progress.wait(&format!("{queue}, {} so far", jobs_of(total)), reason.as_str());
            }
        }
    }
    progress.clear();
    Ok(total)
}
