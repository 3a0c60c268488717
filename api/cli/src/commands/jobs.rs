//! `fourmi jobs`, `job`: looking at jobs.

use std::time::Duration;

use clap::Args;
use fourmi_client::{Client, JobPage, JobQuery};
use fourmi_model::{Job, RunReport, State};
use jiff::Timestamp;
use serde_json::json;

use crate::{
    arguments::OneJob,
    commands::{many::Filter, pages},
    exit::Exit,
    print::{self, Table},
    session::Session,
};

/// Which jobs.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fourmi jobs --state running --state waiting
  fourmi jobs --tenant acme --since 2h
  fourmi jobs --kind audio.extract --state failed --all --json | jq '.jobs[].error.code'")]
pub(crate) struct JobsArguments {
    #[command(flatten)]
    filter: Filter,
    /// The most jobs to list
    #[arg(long, short = 'n', value_name = "N", default_value_t = 50, conflicts_with = "all")]
    limit: usize,
    /// List all jobs, however many
    #[arg(long, short)]
    all: bool,
    /// Go on where an earlier list ended (`next` of its JSON)
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
}

pub(crate) async fn list(session: &Session, arguments: JobsArguments) -> anyhow::Result<Exit> {
    let client = session.client()?;
    let wanted = if arguments.all { usize::MAX } else { arguments.limit };
    let query = JobQuery { cursor: arguments.cursor, ..arguments.filter.query() };
    list_them(session, &client, query, wanted, print_table).await
}

/// Lists up to `wanted` jobs, as JSON or as this table.
pub(crate) async fn list_them(
    session: &Session,
    client: &Client,
    query: JobQuery,
    wanted: usize,
    table: fn(&[Job]) -> anyhow::Result<()>,
) -> anyhow::Result<Exit> {
    let page = collect(client, query, wanted).await?;
    if session.json() {
        print::json(&page)?;
        return Ok(Exit::Done);
    }
    table(&page.jobs)?;
    if page.next.is_some() {
        session.note("There are more: --limit N or --all lists them.");
    }
    Ok(Exit::Done)
}

async fn collect(client: &Client, query: JobQuery, wanted: usize) -> anyhow::Result<JobPage> {
    let (jobs, next) = pages::collect(wanted, query.cursor.clone(), async |limit, cursor| {
        let page = client.jobs(&JobQuery { limit: Some(limit), cursor, ..query.clone() }).await?;
        Ok((page.jobs, page.next))
    })
    .await?;
    Ok(JobPage { jobs, next })
}

pub(crate) fn print_table(jobs: &[Job]) -> anyhow::Result<()> {
    if jobs.is_empty() {
        return print::line("No jobs.");
    }
    let now = Timestamp::now();
    let mut table = Table::new(&["ID", "KIND", "STATE", "DONE", "AGE", "TOOK", "NOTE"]);
    for job in jobs {
        table.row(vec![
            job.id.to_string(),
            job.kind.to_string(),
            job.state.to_string(),
            percent(job),
            print::rough(print::between(job.created_at, now)),
            took(job, now),
            note(job),
        ]);
    }
    table.print()
}

fn percent(job: &Job) -> String {
    match (job.state, &job.progress) {
        (State::Succeeded, _) => "100 %".to_owned(),
        (_, Some(progress)) => format!("{:.0} %", progress.percent.floor()),
        _ => String::new(),
    }
}

fn took(job: &Job, now: Timestamp) -> String {
    let end = if job.state == State::Running { Some(now) } else { job.finished_at };
    match (job.started_at, end) {
        (Some(start), Some(end)) => print::rough(print::between(start, end)),
        _ => String::new(),
    }
}

pub(crate) fn note(job: &Job) -> String {
    let error = job.error.as_ref().filter(|_| job.state != State::Succeeded).map(|error| error.code.clone());
    let cancel = job.cancel_requested.then(|| "being cancelled".to_owned());
    let tags = (!job.tags.is_empty()).then(|| job.tags.join(", "));
    [cancel, job.parked_reason.map(|reason| reason.to_string()), error, tags]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join("; ")
}

pub(crate) async fn show(session: &Session, arguments: OneJob) -> anyhow::Result<Exit> {
    let client = session.client()?;
    let job = client.job(&arguments.id).await?;
    let runs = client.runs(&arguments.id).await?;
    if session.json() {
        let mut document = serde_json::to_value(&job)?;
        document["runs"] = json!(runs);
        print::json(&document)?;
    } else {
        print_job(&job)?;
        print_runs(&runs)?;
    }
    Ok(Exit::Done)
}

fn print_job(job: &Job) -> anyhow::Result<()> {
    let field = |name: &str, value: &str| print::line(&format!("{name:<10} {value}"));
    let time = |time: Timestamp| format!("{time:.0} ({} ago)", print::rough(print::between(time, Timestamp::now())));
    field("id", &job.id.to_string())?;
    field("kind", job.kind.as_str())?;
    let cancel = if job.cancel_requested { " (being cancelled)" } else { "" };
    field("state", &format!("{}{cancel}", print::state(job.state)))?;
    field("priority", job.priority.as_str())?;
    if !job.tags.is_empty() {
        field("tags", &print::one_line(&job.tags.join(", ")))?;
    }
    field("created", &time(job.created_at))?;
    for (name, moment) in [("started", job.started_at), ("finished", job.finished_at)] {
        moment.map_or(Ok(()), |moment| field(name, &time(moment)))?;
    }
    if !job.after.is_empty() {
        let after: Vec<String> = job.after.iter().take(5).map(ToString::to_string).collect();
        let more = job.after.len().saturating_sub(after.len());
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        field("after", &format!("{}{more}", after.join(", ")))?;
    }
    for (name, id) in [("made by", &job.parent), ("batch", &job.batch)] {
        id.as_ref().map_or(Ok(()), |id| field(name, &id.to_string()))?;
    }
    if let Some(due) = job.due_at {
        field("due", &format!("{due:.0}"))?;
    }
    if let Some(reason) = job.parked_reason {
        field("parked", reason.as_str())?;
    }
    field("runs", &format!("{} ({} counted, {} crashed)", job.run, job.attempts, job.crashes))?;
    if let Some(progress) = &job.progress {
        field("progress", &format!("{} {:.0} %", print::one_line(&progress.stage), progress.percent.floor()))?;
    }
    if let Some(error) = &job.error {
        field("error", &format!("{} ({})", print::one_line(&error.message), error.code))?;
    }
    print::line(&format!("\nPayload:\n{}", serde_json::to_string_pretty(&job.payload)?))?;
    match &job.result {
        Some(result) => print::line(&format!("\nResult:\n{}", serde_json::to_string_pretty(result)?)),
        None => Ok(()),
    }
}

fn print_runs(runs: &[RunReport]) -> anyhow::Result<()> {
    if runs.is_empty() {
        return Ok(());
    }
    print::line("\nRuns that did not succeed:")?;
    let mut table = Table::new(&["RUN", "STARTED", "TOOK", "WORKER", "ERROR"]);
    for run in runs {
        table.row(vec![
            run.run.to_string(),
            format!("{:.0}", run.started_at),
            print::rough(Duration::from_millis(run.duration_ms)),
            run.worker.clone(),
            format!("{}: {}", run.error.code, run.error.message),
        ]);
    }
    table.print()
}
