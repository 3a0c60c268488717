//! Lines for the logs of jobs.

use std::sync::Arc;

use fourmi_model::{LogEntry, LogLevel};
use fourmi_queue::Run;
use salvo::{Depot, Request, Response, handler, http::StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Work,
    runs::{Batch, Item, work_answer},
};
use crate::{body, caller::Caller, operation::state_of, problem::Problem, redis::in_time, routes::submission::invalid};

/// The largest body, in bytes.
const MAX_BYTES: usize = 1024 * 1024;

/// The most lines of a run in one request.
const MAX_LINES: usize = 200;

/// Lines for logs.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogRequest<'a> {
    /// Of each run, its lines.
    #[serde(borrow)]
    #[schemars(with = "Vec<LogItem>", length(min = 1, max = 1_000))]
    log: Vec<&'a RawValue>,
}

/// Lines of a run.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LogItem {
    /// The job.
    id: String,
    /// The number of the run.
    run: u64,
    /// The lines, in order.
    #[schemars(length(min = 1, max = 200))]
    lines: Vec<NewLine>,
}

/// A line.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewLine {
    /// How grave it is; `info` if nothing is said.
    #[serde(default = "info")]
    level: LogLevel,
    /// What it says.
    text: String,
}

fn info() -> LogLevel {
    LogLevel::Info
}

impl Item for LogItem {
    fn run(&self) -> (&str, u64) {
        (&self.id, self.run)
    }

    fn check(&mut self) -> Result<(), Problem> {
        if (1..=MAX_LINES).contains(&self.lines.len()) {
            return Ok(());
        }
        Err(invalid("lines", format!("must be 1 to {MAX_LINES}")))
    }
}

#[handler]
pub(super) async fn write_log(
    request: &mut Request,
    depot: &mut Depot,
    response: &mut Response,
) -> Result<(), Problem> {
    let work: Arc<Work> = state_of(depot)?;
    let caller = Caller::of(depot)?;
    let sent: LogRequest<'_> = body::parse(body::read_up_to(request, MAX_BYTES).await?)?;
    let mut batch = Batch::<LogItem>::read(&work, &caller, "log", &sent.log).await?;
    batch.refuse_lost();
    let entries = |item: &LogItem| item.lines.iter().map(|line| LogEntry::new(line.level, &line.text)).collect();
    let news: Vec<(Run, Vec<LogEntry>)> = batch.said.iter().map(|said| (said.run, entries(&said.item))).collect();
    let counts = in_time(work.external.transitions().log(&news)).await?;
    batch.answer_rest(counts);
    body::write(response, StatusCode::OK, &work_answer(batch.answers)?)
}
