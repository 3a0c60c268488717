//! The result in figures.

use std::{collections::BTreeMap, fmt};

use fourmi_model::State;
use serde::Serialize;

use super::{
    Options,
    faults::Trouble,
    history::History,
    verdict::{Promise, Verdict, Violation},
};

#[derive(Debug, Serialize)]
pub(super) struct Scorecard {
    seed: u64,
    seconds: u64,
    workers: usize,
    submitters: usize,
    skewed_clocks: bool,
    accepted: usize,
    /// Jobs by how they ended.
    jobs: BTreeMap<String, usize>,
    runs: usize,
    /// What went wrong, and how often.
    faults: BTreeMap<String, usize>,
    stalls: usize,
    lost: usize,
    doubled: usize,
    stale: usize,
    unexplained: usize,
    not_as_meant: usize,
    over_the_limit: usize,
    /// The most jobs that ran under the limit at the same time.
    most_under_the_limit: usize,
    leftover_keys: usize,
    died: usize,
    /// Runs that another followed, by their cause.
    repeated: BTreeMap<&'static str, u64>,
    /// From the death of a worker until what it ran was taken back, and until that started again.
    reclaims: usize,
    taken_back_p50_ms: Option<i64>,
    taken_back_p99_ms: Option<i64>,
    reclaim_p50_ms: Option<i64>,
    reclaim_p99_ms: Option<i64>,
    pub(super) violations: Vec<Violation>,
}

impl Scorecard {
    pub(super) fn of(options: &Options, skewed_clocks: bool, history: &History, verdict: Verdict) -> Self {
        let (mut jobs, mut faults) = (BTreeMap::new(), BTreeMap::new());
        for end in history.ends.values() {
            *jobs.entry(end.state.to_string()).or_default() += 1;
        }
        let mut stalls = 0;
        for trouble in &history.troubles {
            match &trouble.what {
                Trouble::Fault { fault, .. } => *faults.entry(fault.name().to_owned()).or_default() += 1,
                Trouble::Stall => stalls += 1,
                Trouble::UnexpectedExit { .. } => {}
            }
        }
        let broken = |promise| verdict.violations.iter().filter(|violation| violation.promise == promise).count();
        let starts = history.transitions.values().flatten().filter(|step| step.state == State::Running);
        Self {
            seed: options.seed,
            seconds: options.seconds,
            workers: options.workers,
            submitters: options.submitters,
            skewed_clocks,
            accepted: history.accepted.len(),
            jobs,
            runs: starts.count(),
            faults,
            stalls,
            lost: broken(Promise::NothingLost),
            doubled: broken(Promise::SettledOnce),
            stale: broken(Promise::NoStaleRun),
            unexplained: broken(Promise::RepeatsExplained),
            not_as_meant: broken(Promise::AsMeant),
            over_the_limit: broken(Promise::LimitsHold),
            most_under_the_limit: history.most_under_a_limit,
            leftover_keys: broken(Promise::NoLeftovers),
            died: broken(Promise::NobodyDies),
            reclaims: verdict.reclaims_ms.len(),
            taken_back_p50_ms: quantile(&verdict.taken_back_ms, 50),
            taken_back_p99_ms: quantile(&verdict.taken_back_ms, 99),
            reclaim_p50_ms: quantile(&verdict.reclaims_ms, 50),
            reclaim_p99_ms: quantile(&verdict.reclaims_ms, 99),
            repeated: verdict.repeated,
            violations: verdict.violations,
        }
    }
}

/// The smallest value that so many of a hundred do not exceed.
fn quantile(sorted: &[i64], of_hundred: usize) -> Option<i64> {
    let place = (sorted.len() * of_hundred).div_ceil(100).max(1) - 1;
    sorted.get(place).copied()
}

impl fmt::Display for Scorecard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |name: &str, value: String| writeln!(f, "  {name:<32}{value:>10}");
        row("submissions accepted", self.accepted.to_string())?;
        for (state, jobs) in &self.jobs {
            row(&format!("jobs {state}"), jobs.to_string())?;
        }
        row("runs", self.runs.to_string())?;
        for (fault, times) in &self.faults {
            row(fault, times.to_string())?;
        }
        row("most under the limit at once", self.most_under_the_limit.to_string())?;
        row("stalls of this machine", self.stalls.to_string())?;
        for (cause, runs) in &self.repeated {
            row(&format!("run repeated: {cause}"), runs.to_string())?;
        }
        let ms = |time: Option<i64>| time.map_or("-".to_owned(), |ms| format!("{ms} ms"));
        row("taken back after a death, p50", ms(self.taken_back_p50_ms))?;
        row("taken back after a death, p99", ms(self.taken_back_p99_ms))?;
        row("started again (reclaim), p50", ms(self.reclaim_p50_ms))?;
        row("started again (reclaim), p99", ms(self.reclaim_p99_ms))?;
        for (name, count) in [
            ("lost", self.lost),
            ("doubled", self.doubled),
            ("stale runs accepted", self.stale),
            ("repeated for no known cause", self.unexplained),
            ("not as meant", self.not_as_meant),
            ("over the limit", self.over_the_limit),
            ("leftover keys", self.leftover_keys),
            ("processes that died by themselves", self.died),
        ] {
            row(name, count.to_string())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_seen() {
        assert_eq!(quantile(&[], 50), None);
        assert_eq!((quantile(&[7], 50), quantile(&[7], 99)), (Some(7), Some(7)));
        let hundred: Vec<i64> = (1..=100).collect();
        assert_eq!((quantile(&hundred, 50), quantile(&hundred, 99)), (Some(50), Some(99)));
    }
}
