//! `fourmi log`: what the runs of a job have written.

use clap::Args;
use fourmi_client::{Client, Update};
use fourmi_model::{JobId, LogLine, LogPage, MAX_LOG_LINES, State};
use futures_util::StreamExt;

use crate::{
    exit::{Exit, Stop},
    follow, print,
    session::{Session, unless_interrupted},
};

/// Which log, and how much of it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fourmi log media-… --follow
  fourmi log media-… --json | jq -r '.lines[] | select(.level != \"info\") | .text'

The newest 1,000 lines of a job are kept, as long as the job is. With --follow the exit code tells how
the job ended.")]
pub(crate) struct LogArguments {
    /// Id of the job
    id: JobId,
    /// Go on with what is written from now on, until the job is over
    #[arg(long, short)]
    follow: bool,
    /// Only lines after the one of this number
    #[arg(long, value_name = "N", default_value_t = 0)]
    after: u64,
}

pub(crate) async fn run(session: &Session, arguments: LogArguments) -> anyhow::Result<Exit> {
    let client = session.client()?;
    if arguments.follow {
        let followed = unless_interrupted(follow(session, &client, &arguments)).await?;
        let state = followed.unwrap_or_else(|| Err(Stop::interrupted("stopped following; the job goes on")))?;
        return Ok(Exit::of(state));
    }
    // All that a job keeps comes in one page.
    let page: LogPage = client.log(&arguments.id, arguments.after, MAX_LOG_LINES).await?;
    if session.json() {
        print::json(&page)?;
        return Ok(Exit::Done);
    }
    let mut missed = page.missed;
    for line in &page.lines {
        print::line(&as_text(line, std::mem::take(&mut missed)))?;
    }
    if page.lines.is_empty() {
        session.note("No lines.");
    }
    Ok(Exit::Done)
}

/// Prints lines until the job is over; how it ended.
async fn follow(session: &Session, client: &Client, arguments: &LogArguments) -> anyhow::Result<State> {
    let mut updates = client.events_with_log(&arguments.id, arguments.after);
    let mut last = None;
    while let Some(update) = updates.next().await {
        let update = update?;
        match &update {
            Update::Log { .. } if session.json() => print::json_line(&follow::as_json(&update))?,
            Update::Log { line, missed } => print::line(&as_text(line, *missed))?,
            Update::Snapshot(job) | Update::State(job) => last = Some(job.state),
            Update::Interrupted { reason, .. } => {
                session.note(&format!("The API is away: {}", print::one_line(reason)))
            }
            Update::Progress { .. } => {}
        }
    }
    match last {
        Some(state) if state.is_final() => Ok(state),
        // The stream gives the end of a job or an error; so much for what cannot be.
        _ => Ok(client.wait(&arguments.id).await?.state),
    }
}

/// A line as a person reads it, below a word about those before it that are gone.
pub(crate) fn as_text(line: &LogLine, missed: u64) -> String {
    let gone = if missed > 0 { format!("({missed} lines are gone)\n") } else { String::new() };
    let text = print::one_line(&line.text);
    format!("{gone}{}  {:<5}  {text}", print::time_of_day(line.time), line.level)
}
