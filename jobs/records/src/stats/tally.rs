//! Adding up rows.

use std::{cmp::Reverse, collections::BTreeMap};

use fourmi_model::{JobFigures, JobPoint, JobSeries, JobStats, StatDimension, State};
use jiff::Timestamp;

use super::{StatFilter, histogram::Histogram};
use crate::{
    RecordsError,
    row::{Cells, Columns},
};

/// The most series of a document.
const SERIES: usize = 100;

/// Jobs that ended in one way.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Tally {
    pub(super) jobs: i64,
    pub(super) waits: Histogram,
    pub(super) runs: Histogram,
}

impl Tally {
    /// Adds a row: what was added up before, so many times, or a single job.
    pub(super) fn add_row(&mut self, row: &Columns<'_>) -> Result<(), RecordsError> {
        let times: i64 = row.number("times")?;
        self.jobs += times * row.number::<i64>("jobs")?;
        self.waits.add(&row.needed_json("waits")?, times);
        self.runs.add(&row.needed_json("runs")?, times);
        if let Some(ms) = row.optional_number("wait_ms")? {
            self.waits.note(ms);
        }
        if let Some(ms) = row.optional_number("run_ms")? {
            self.runs.note(ms);
        }
        Ok(())
    }

    fn add(&mut self, other: &Self) {
        self.jobs += other.jobs;
        self.waits.add(&other.waits, 1);
        self.runs.add(&other.runs, 1);
    }
}

/// Jobs by how they ended.
type Ends = BTreeMap<State, Tally>;

/// Series of points.
pub(super) struct Series<'a> {
    filter: &'a StatFilter,
    points: BTreeMap<Option<String>, BTreeMap<Timestamp, Ends>>,
}

impl<'a> Series<'a> {
    pub(super) fn new(filter: &'a StatFilter) -> Self {
        Self { filter, points: BTreeMap::new() }
    }

    /// Adds a row.
    pub(super) fn add(&mut self, row: &dyn Cells) -> Result<(), RecordsError> {
        let row = Columns::of("statistics", row)?;
        let name = match self.filter.by {
            None => None,
            Some(StatDimension::Kind) => row.text("kind")?,
            Some(StatDimension::Queue) => row.text("queue")?,
            Some(StatDimension::Tenant) => row.text("tenant")?.filter(|tenant| !tenant.is_empty()),
        };
        let at = self.filter.step.start_of(row.time("at")?.unwrap_or_default());
        let ends = self.points.entry(name).or_default().entry(at).or_default();
        ends.entry(row.word("state")?).or_default().add_row(&row)
    }

    /// All of it, for whoever asked.
    pub(super) fn document(self, unrolled_minutes: u64) -> JobStats {
        let StatFilter { step, from, to, by, .. } = *self.filter;
        let series = self.points.into_iter().map(|(name, points)| one(name, points));
        let mut series: Vec<_> = series.filter(|series| by.is_none() || series.total.finished > 0).collect();
        if series.is_empty() && by.is_none() {
            series.push(one(None, BTreeMap::new()));
        }
        series.sort_by_key(|series| Reverse(series.total.finished));
        let left_out = series.len().saturating_sub(SERIES) as u64;
        series.truncate(SERIES);
        JobStats { step, from, to, by, series, left_out, unrolled_minutes }
    }
}

fn one(name: Option<String>, points: BTreeMap<Timestamp, Ends>) -> JobSeries {
    let mut total = Ends::new();
    for (state, tally) in points.values().flatten() {
        total.entry(*state).or_default().add(tally);
    }
    let points = points.iter().map(|(at, ends)| JobPoint { at: *at, figures: figures(ends) });
    JobSeries { name, total: figures(&total), points: points.filter(|point| point.figures.finished > 0).collect() }
}

fn figures(ends: &Ends) -> JobFigures {
    let number = |state| ends.get(&state).map_or(0, |tally| tally.jobs.max(0).unsigned_abs());
    let (succeeded, failed, cancelled) = (number(State::Succeeded), number(State::Failed), number(State::Cancelled));
    let mut all = Tally::default();
    ends.values().for_each(|tally| all.add(tally));
    #[expect(clippy::cast_precision_loss, reason = "a share needs no more")]
    let share = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
    JobFigures {
        finished: succeeded + failed + cancelled,
        succeeded,
        failed,
        cancelled,
        success_rate: share(succeeded, succeeded + failed),
        wait: all.waits.percentiles(),
        run: all.runs.percentiles(),
    }
}
