//! All that is known about what happened, gathered when it is over.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use fourmi_model::{Job, RunReport, State};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    faults::Happened,
    journal,
    submitter::{Line, Note, Order},
    transitions::Transition,
    work::Effect,
};

#[derive(Debug, Default)]
pub(super) struct History {
    /// What the clock of the journals must be raised by to be Redis's.
    pub(super) clock: i64,
    pub(super) lease_ms: i64,
    pub(super) orders: BTreeMap<Uuid, Order>,
    /// The job that each accepted submission became.
    pub(super) accepted: BTreeMap<Uuid, Uuid>,
    pub(super) refused: Vec<(Uuid, String)>,
    /// Jobs that somebody tried to cancel, and those of which the answer was that they will not start.
    pub(super) cancels: BTreeSet<Uuid>,
    pub(super) cancelled_at_once: BTreeSet<Uuid>,
    pub(super) transitions: BTreeMap<Uuid, Vec<Transition>>,
    pub(super) ends: BTreeMap<Uuid, End>,
    /// The most jobs that ran under the limit at the same time.
    pub(super) most_under_a_limit: usize,
    pub(super) effects: BTreeMap<(Uuid, u64), Vec<Effect>>,
    pub(super) troubles: Vec<Happened>,
    /// Keys that are left when all jobs are forgotten.
    pub(super) keys: Vec<String>,
    /// Why the queue did not come to rest.
    pub(super) stuck: Option<String>,
}

/// A job as Redis has it in the end.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct End {
    pub(super) id: Uuid,
    pub(super) state: State,
    pub(super) code: Option<String>,
    /// Who says that it did the work.
    pub(super) result_run: Option<u64>,
    /// In Redis's milliseconds.
    pub(super) finished: Option<i64>,
    pub(super) reports: Vec<Report>,
}

/// A run that did not succeed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) run: u64,
    pub(super) worker: String,
    /// In Redis's milliseconds.
    pub(super) started: i64,
    pub(super) ended: i64,
    pub(super) code: String,
    pub(super) message: String,
}

impl End {
    pub(super) fn of(job: &Job, reports: Vec<RunReport>) -> Self {
        Self {
            id: job.id.uuid(),
            state: job.state,
            code: job.error.as_ref().map(|error| error.code.clone()),
            result_run: job.result.as_ref().and_then(|result| result["run"].as_u64()),
            finished: job.finished_at.map(|time| time.as_millisecond()),
            reports: reports.into_iter().map(Report::of).collect(),
        }
    }
}

impl Report {
    fn of(report: RunReport) -> Self {
        Self {
            run: report.run,
            worker: report.worker,
            started: report.started_at.as_millisecond(),
            ended: report.ended_at.as_millisecond(),
            code: report.error.code,
            message: report.error.message,
        }
    }
}

impl History {
    /// Adds what a submitter has written down.
    pub(super) fn add_submitter(&mut self, journal: &Path) {
        for line in journal::read::<Line>(journal) {
            match line.what {
                Note::Submits(order) => {
                    self.orders.insert(order.id, order);
                }
                Note::Accepted { id, as_job } => {
                    self.accepted.insert(id, as_job);
                }
                Note::Refused { id, why } => self.refused.push((id, why)),
                Note::Cancels { id } => {
                    self.cancels.insert(id);
                }
                Note::CancelledAtOnce { id } => {
                    self.cancelled_at_once.insert(id);
                }
            }
        }
    }

    pub(super) fn add_effects(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            self.effects.entry((effect.job, effect.run)).or_default().push(effect);
        }
    }
}
