//! `fourmi dead`: the dead letter: jobs that have failed for good.

use std::io::{self, IsTerminal, Write};

use clap::{Args, Subcommand};
use fourmi_client::{Client, DeadAction, DeadQuery, DeadTotal, JobQuery};
use fourmi_model::{Job, JobId, KindName, QueueName, State};
use jiff::Timestamp;
use serde_json::json;

use crate::{
    arguments::{OneJob, moment},
    commands::jobs,
    exit::{Exit, Stop},
    print::{self, Table},
    session::Session,
};

/// What to do with failed jobs.
#[derive(Debug, Subcommand)]
pub(crate) enum DeadCommand {
    /// List failed jobs, newest first
    List(ListArguments),
    /// Show a job with every run of it that failed: when, where, how long, why
    Show(OneJob),
    /// Run failed jobs again, with a fresh budget of attempts
    Replay(ReplayArguments),
    /// Forget failed jobs before their time, with all that is known of them
    Purge(PurgeArguments),
}

/// Which failed jobs.
#[derive(Debug, Args)]
pub(crate) struct Filter {
    /// Only jobs of this kind
    #[arg(long, short, value_name = "KIND")]
    kind: Option<KindName>,
    /// Only jobs whose error has this code
    #[arg(long, short, value_name = "CODE")]
    error: Option<String>,
    /// Only jobs with this label
    #[arg(long, short, value_name = "TAG")]
    tag: Option<String>,
    /// Only jobs that failed at this time or later: a time, or how long ago (2h)
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Timestamp>,
    /// Only jobs that failed before this time
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Timestamp>,
    /// Only jobs in this queue
    #[arg(long, value_name = "QUEUE")]
    queue: Option<QueueName>,
}

/// Which failed jobs to list.
#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    #[command(flatten)]
    filter: Filter,
    /// The most jobs to list
    #[arg(long, short = 'n', value_name = "N", default_value_t = 50, conflicts_with = "all")]
    limit: usize,
    /// List all, however many
    #[arg(long, short)]
    all: bool,
}

/// Which failed jobs to replay or purge.
#[derive(Debug, Args)]
pub(crate) struct Selection {
    /// Ids of the jobs; without, a filter or --all says which
    #[arg(conflicts_with_all = ["kind", "error", "tag", "since", "until", "queue", "all"])]
    ids: Vec<JobId>,
    #[command(flatten)]
    filter: Filter,
    /// All failed jobs
    #[arg(long, short)]
    all: bool,
    /// Only count them
    #[arg(long)]
    dry_run: bool,
}

/// Which failed jobs to run again.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fourmi dead replay media-…
  fourmi dead replay --error source_timeout --since 2h
  fourmi dead replay --kind audio.extract --dry-run")]
pub(crate) struct ReplayArguments {
    #[command(flatten)]
    selection: Selection,
}

/// Which failed jobs to forget.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fourmi dead purge --error not_media --until 7d
  fourmi dead purge --all --yes")]
pub(crate) struct PurgeArguments {
    #[command(flatten)]
    selection: Selection,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

pub(crate) async fn run(session: &Session, command: DeadCommand) -> anyhow::Result<Exit> {
    match command {
        DeadCommand::List(arguments) => list(session, arguments).await,
        DeadCommand::Show(job) => jobs::show(session, job).await,
        DeadCommand::Replay(arguments) => replay(session, &arguments.selection).await,
        DeadCommand::Purge(arguments) => purge(session, &arguments).await,
    }
}

async fn list(session: &Session, arguments: ListArguments) -> anyhow::Result<Exit> {
    let wanted = if arguments.all { usize::MAX } else { arguments.limit };
    let filter = arguments.filter;
    let query = JobQuery {
        states: vec![State::Failed],
        kind: filter.kind,
        queue: filter.queue,
        tag: filter.tag,
        error: filter.error,
        finished_after: filter.since.map(|time| time.to_string()),
        finished_before: filter.until.map(|time| time.to_string()),
        ..JobQuery::default()
    };
    jobs::list_them(session, &session.client()?, query, wanted, print_table).await
}

fn print_table(jobs: &[Job]) -> anyhow::Result<()> {
    if jobs.is_empty() {
        return print::line("No failed jobs.");
    }
    let now = Timestamp::now();
    let mut table = Table::new(&["ID", "KIND", "FAILED", "RUNS", "CODE", "MESSAGE"]);
    for job in jobs {
        let error = job.error.as_ref();
        table.row(vec![
            job.id.to_string(),
            job.kind.to_string(),
            job.finished_at.map(|end| format!("{} ago", print::rough(print::between(end, now)))).unwrap_or_default(),
            job.run.to_string(),
            error.map(|error| error.code.clone()).unwrap_or_default(),
            error.map(|error| error.message.clone()).unwrap_or_default(),
        ]);
    }
    table.print()
}

async fn replay(session: &Session, selection: &Selection) -> anyhow::Result<Exit> {
    selection.check()?;
    let client = session.client()?;
    if selection.dry_run {
        let total = walk(session, &client, selection, DeadAction::Count).await?;
        return tell(session, total, "dry_run", &format!("{} would run again.", jobs_of(total.matched)));
    }
    let total = walk(session, &client, selection, DeadAction::Replay).await?;
    tell(session, total, "replay", &format!("{}.", jobs_are(total.done, "ready to run again")))
}

async fn purge(session: &Session, arguments: &PurgeArguments) -> anyhow::Result<Exit> {
    let selection = &arguments.selection;
    selection.check()?;
    if !selection.dry_run && !arguments.yes {
        check_that_somebody_is_there("what is purged is gone", "--yes, or --dry-run to count it first")?;
    }
    let client = session.client()?;
    if selection.dry_run || !arguments.yes {
        let total = walk(session, &client, selection, DeadAction::Count).await?;
        let text = format!("{} would be forgotten.", jobs_of(total.matched));
        if selection.dry_run || total.matched == 0 {
            return tell(session, total, "dry_run", &text);
        }
        if !agrees(&format!("{text} Go on? [y/N] "))? {
            return Err(Stop::usage("nothing was purged"));
        }
    }
    let total = walk(session, &client, selection, DeadAction::Purge).await?;
    tell(session, total, "purge", &format!("{}.", jobs_are(total.done, "forgotten")))
}

/// Whether somebody can be asked; `instead` is what to say if not.
pub(crate) fn check_that_somebody_is_there(why: &str, instead: &str) -> anyhow::Result<()> {
    if io::stdin().is_terminal() {
        return Ok(());
    }
    Err(Stop::usage(format!("{why}: say {instead}")))
}

/// Asks a person.
pub(crate) fn agrees(question: &str) -> anyhow::Result<bool> {
    let mut out = io::stderr().lock();
    out.write_all(question.as_bytes())?;
    out.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}

/// Walks through all queues that are meant, step by step.
async fn walk(
    session: &Session,
    client: &Client,
    selection: &Selection,
    action: DeadAction,
) -> anyhow::Result<DeadTotal> {
    let progress = session.progress();
    let mut total = DeadTotal::default();
    for (queue, query) in selection.queries(client).await? {
        let mut steps = client.dead(&queue, action, &query);
        let before = total;
        while let Some(so_far) = steps.step().await? {
            total = DeadTotal { matched: before.matched + so_far.matched, done: before.done + so_far.done };
            progress.wait(&format!("{queue}, {} so far", jobs_of(total.matched)), "");
        }
    }
    progress.clear();
    Ok(total)
}

fn tell(session: &Session, total: DeadTotal, what: &str, text: &str) -> anyhow::Result<Exit> {
    if session.json() {
        print::json(&json!({"action": what, "matched": total.matched, "done": total.done}))?;
    } else {
        print::line(text)?;
    }
    Ok(Exit::Done)
}

pub(crate) fn jobs_of(count: u64) -> String {
    if count == 1 { "1 job".to_owned() } else { format!("{count} jobs") }
}

/// What is to be said of so many jobs.
pub(crate) fn jobs_are(count: u64, what: &str) -> String {
    format!("{} {} {what}", jobs_of(count), if count == 1 { "is" } else { "are" })
}

impl Selection {
    /// Whether it is said which jobs are meant: a forgotten filter must not mean all.
    fn check(&self) -> anyhow::Result<()> {
        let Filter { kind, error, tag, since, until, queue } = &self.filter;
        let filtered = kind.is_some() || error.is_some() || tag.is_some() || since.is_some() || until.is_some();
        if self.all || filtered || queue.is_some() || !self.ids.is_empty() {
            return Ok(());
        }
        Err(Stop::usage("say which failed jobs: their ids, a filter such as --error CODE, or --all"))
    }

    /// What to ask of each queue.
    async fn queries(&self, client: &Client) -> anyhow::Result<Vec<(QueueName, DeadQuery)>> {
        if !self.ids.is_empty() {
            let mut queries = Vec::new();
            let mut ids = self.ids.clone();
            ids.sort();
            for same_queue in ids.chunk_by(|one, other| one.queue() == other.queue()) {
                let of = |ids: &[JobId]| DeadQuery { ids: Some(ids.to_vec()), ..DeadQuery::default() };
                queries.extend(same_queue.chunks(1_000).map(|ids| (ids[0].queue().clone(), of(ids))));
            }
            return Ok(queries);
        }
        let Filter { kind, error, tag, since, until, queue } = &self.filter;
        let query = DeadQuery {
            ids: None,
            kind: kind.clone(),
            error: error.clone(),
            tag: tag.clone(),
            finished_after: since.map(|time| time.to_string()),
            finished_before: until.map(|time| time.to_string()),
        };
        let queues = match queue {
            Some(queue) => vec![queue.clone()],
            None => client.queues().await?.into_iter().map(|queue| queue.name).collect(),
        };
        Ok(queues.into_iter().map(|queue| (queue, query.clone())).collect())
    }
}
