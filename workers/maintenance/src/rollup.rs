//! `stats.rollup`: adds up the statistics of finished jobs.

use std::sync::Arc;

use fourmi_kinds::{RollupReport, StatsRollup};
use fourmi_model::{Failure, Progress};
use fourmi_records::Added;
use fourmi_runtime::Context;
use jiff::Timestamp;

use crate::house::{Keys, unavailable};

/// Adds up until nothing is due.
pub(crate) async fn run(keys: Arc<Keys>, job: StatsRollup, context: Context) -> Result<RollupReport, Failure> {
    let records = &keys.open(context.settings()).await?.records;
    let now = Timestamp::now();
    if let Some(from) = job.from {
        records.recount(from, job.to.unwrap_or(now)).await.map_err(unavailable)?;
    }
    let mut report = RollupReport::default();
    while let Added::Hour(rolled) = records.roll_up(now).await.map_err(unavailable)? {
        if context.is_cancelled() {
            return Err(Failure::cancelled());
        }
        report.hours += 1;
        report.minutes += rolled.minutes;
        report.too_late += rolled.too_late;
        let message = format!("{} minutes added up", report.minutes);
        context.progress(Progress { stage: "add_up".to_owned(), message, ..Progress::default() });
    }
    records.prune_stats(now).await.map_err(unavailable)?;
    Ok(report)
}
