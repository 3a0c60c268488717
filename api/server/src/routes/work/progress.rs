//! How far runs are.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use fourmi_model::Progress;
use fourmi_queue::{Detail, Run};
use salvo::{Depot, Request, Response, handler, http::StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Work,
    runs::{Batch, Item, work_answer},
};
use crate::{
    body,
    caller::Caller,
    operation::state_of,
    problem::Problem,
    redis::in_time,
    routes::submission::{check_label, invalid},
};

/// The largest body, in bytes.
const MAX_BYTES: usize = 1024 * 1024;

/// The longest stage, and name of a counter, in characters.
const MAX_WORD_CHARS: usize = 64;

/// How much of a message is kept, in characters.
const MAX_MESSAGE_CHARS: usize = 500;

/// The most counters.
const MAX_COUNTERS: usize = 20;

/// How far runs are.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProgressRequest<'a> {
    /// Of each run, how far it is.
    #[serde(borrow)]
    #[schemars(with = "Vec<ProgressItem>", length(min = 1, max = 1_000))]
    progress: Vec<&'a RawValue>,
}

/// How far a run is.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ProgressItem {
    /// The job.
    id: String,
    /// The number of the run.
    run: u64,
    /// What it is doing, as a stable word of its kind.
    #[schemars(length(min = 1, max = 64))]
    stage: String,
    /// 0 to 100; a smaller one than before is raised to that.
    #[schemars(range(min = 0, max = 100))]
    percent: f32,
    /// The same for a person; 500 characters of it are kept.
    #[serde(default)]
    message: String,
    /// Estimated time to the end of the run, in milliseconds.
    #[serde(default)]
    eta_ms: Option<u64>,
    /// Figures that the kind counts, with the unit in the name.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 20))]
    counters: BTreeMap<String, f64>,
}

impl Item for ProgressItem {
    fn run(&self) -> (&str, u64) {
        (&self.id, self.run)
    }

    fn detail(&self) -> Detail {
        Detail::Progress
    }

    fn check(&mut self) -> Result<(), Problem> {
        check_label("stage", &self.stage, MAX_WORD_CHARS)?;
        if !(0.0..=100.0).contains(&self.percent) {
            return Err(invalid("percent", "must be between 0 and 100"));
        }
        if self.counters.len() > MAX_COUNTERS {
            return Err(invalid("counters", format!("must be {MAX_COUNTERS} at most")));
        }
        self.counters.keys().try_for_each(|name| check_label("counters", name, MAX_WORD_CHARS))
    }
}

#[handler]
pub(super) async fn report_progress(
    request: &mut Request,
    depot: &mut Depot,
    response: &mut Response,
) -> Result<(), Problem> {
    let work: Arc<Work> = state_of(depot)?;
    let caller = Caller::of(depot)?;
    let sent: ProgressRequest<'_> = body::parse(body::read_up_to(request, MAX_BYTES).await?)?;
    let mut batch = Batch::<ProgressItem>::read(&work, &caller, "progress", &sent.progress).await?;
    batch.refuse_lost();

    let mut furthest: HashMap<Run, f32> = HashMap::new();
    let mut news = Vec::with_capacity(batch.said.len());
    for said in &batch.said {
        let before = said.standing.progress.as_ref().map_or(0.0, |progress| progress.percent);
        let percent = furthest.entry(said.run).or_insert(before);
        *percent = percent.max(said.item.percent);
        let progress = Progress {
            stage: said.item.stage.clone(),
            percent: *percent,
            message: said.item.message.chars().take(MAX_MESSAGE_CHARS).collect(),
            eta_ms: said.item.eta_ms,
            counters: said.item.counters.clone(),
            file: None,
        };
        news.push((said.run, serde_json::to_string(&progress).map_err(Problem::internal)?));
    }
    let counts = in_time(work.external.transitions().progress(&news)).await?;
    batch.answer_rest(counts);
    body::write(response, StatusCode::OK, &work_answer(batch.answers)?)
}
