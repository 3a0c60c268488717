//! `maintenance.retention`: deletes what is older than it is to be kept.

use std::sync::Arc;

use fourmi_kinds::{MaintenanceRetention, RetentionOutcome, RetentionReport};
use fourmi_model::{Failure, LogLevel, Progress, RetentionClass};
use fourmi_runtime::Context;

use crate::house::{Keys, unavailable};

/// Deletes, class after class.
pub(crate) async fn run(
    keys: Arc<Keys>,
    job: MaintenanceRetention,
    context: Context,
) -> Result<RetentionReport, Failure> {
    let house = keys.open(context.settings()).await?;
    let classes = chosen(&job.only);
    let mut report = RetentionReport { dry_run: job.dry_run, classes: Vec::new() };
    for (place, class) in classes.iter().enumerate() {
        let goes_on = |so_far: &RetentionOutcome| {
            context.progress(progress(so_far, place, classes.len()));
            !context.is_cancelled()
        };
        let outcome = house.keeper.run(*class, job.days, job.dry_run, goes_on).await.map_err(unavailable)?;
        if context.is_cancelled() {
            return Err(Failure::cancelled());
        }
        context.log(LogLevel::Info, line(&outcome, job.dry_run));
        report.classes.push(outcome);
    }
    Ok(report)
}

/// All of them, if none is named; each once.
fn chosen(only: &[RetentionClass]) -> Vec<RetentionClass> {
    let all = RetentionClass::ALL.iter().copied();
    all.filter(|class| only.is_empty() || only.contains(class)).collect()
}

#[expect(clippy::cast_precision_loss, reason = "a handful of classes, and counters for people")]
fn progress(so_far: &RetentionOutcome, place: usize, classes: usize) -> Progress {
    Progress {
        stage: so_far.class.as_str().to_owned(),
        percent: (place * 100) as f32 / classes as f32,
        message: format!("{}: {} so far", so_far.class, so_far.deleted),
        counters: [("deleted".to_owned(), so_far.deleted as f64)].into(),
        ..Progress::default()
    }
}

fn line(outcome: &RetentionOutcome, dry_run: bool) -> String {
    let RetentionOutcome { class, before, deleted, held, .. } = outcome;
    let done = if dry_run { "would be deleted" } else { "deleted" };
    match before {
        Some(before) => format!("{class} older than {before:.0}: {deleted} {done}, {held} held"),
        None => format!("{class} are kept for ever: {deleted} {done}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_come_once_and_in_their_order() {
        assert_eq!(chosen(&[]), RetentionClass::ALL);
        let only = [RetentionClass::Files, RetentionClass::Jobs, RetentionClass::Files];
        assert_eq!(chosen(&only), [RetentionClass::Jobs, RetentionClass::Files]);
    }
}
