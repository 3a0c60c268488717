//! One fit of ours and one of the others', one right after the other.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use super::{Algorithm, Rows, judge::Verdict, solver::Cost};

const MIB: f64 = 1024.0 * 1024.0;

/// What a fit cost, and what it cost the others.
pub(super) struct Pair {
    ours: Cost,
    theirs: Cost,
}

impl Pair {
    /// Above the lines of [`Pair::line`]. Memory is the peak of the process, then by how much the fit raised it.
    pub(super) const HEADER: &str =
        "fit                            seconds, theirs          MiB, theirs        fit alone, theirs  quality, theirs";

    /// Runs both, whoever comes second in one round first in the next. Nothing if one of them failed, which is said.
    pub(super) fn measure(python: &Path, folder: &Path, algorithm: Algorithm, eps: f64, round: u64) -> Option<Self> {
        let ours = || {
            let mut command = Command::new(std::env::current_exe().unwrap());
            cost(command.arg("insight-fit"), folder, algorithm, eps, round, &answer_of_ours(folder))
        };
        let theirs = || {
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/insight.py");
            cost(Command::new(python).arg(script), folder, algorithm, eps, round, &answer_of_theirs(folder))
        };
        let (ours, theirs) = if round.is_multiple_of(2) {
            (ours(), theirs())
        } else {
            let theirs = theirs();
            (ours(), theirs)
        };
        Some(Self { ours: ours?, theirs: theirs? })
    }

    /// Our time as a share of theirs.
    pub(super) fn time_ratio(&self) -> f64 {
        self.ours.seconds / self.theirs.seconds
    }

    /// Our peak as a share of theirs.
    pub(super) fn memory_ratio(&self) -> f64 {
        self.ours.rss_bytes as f64 / self.theirs.rss_bytes as f64
    }

    /// A line of the table that shows what ratios are made of.
    pub(super) fn line(algorithm: Algorithm, rows: Rows, pair: Option<&Self>, verdict: Option<&Verdict>) -> String {
        let name = format!("{} {}", algorithm.name(), rows.name());
        let Some((Self { ours, theirs }, verdict)) = pair.zip(verdict) else { return format!("{name:<22} failed") };
        let peak = |cost: &Cost| cost.rss_bytes as f64 / MIB;
        let raised = |cost: &Cost| cost.rss_bytes.saturating_sub(cost.idle_bytes) as f64 / MIB;
        format!(
            "{name:<22} {:>10.4} {:>10.4}   {:>8.1} {:>8.1}   {:>8.1} {:>8.1}  {verdict}",
            ours.seconds,
            theirs.seconds,
            peak(ours),
            peak(theirs),
            raised(ours),
            raised(theirs)
        )
    }
}

/// Where our answer is put.
pub(super) fn answer_of_ours(folder: &Path) -> PathBuf {
    folder.join("ours.npy")
}

/// Where the others' answer is put.
pub(super) fn answer_of_theirs(folder: &Path) -> PathBuf {
    folder.join("theirs.npy")
}

/// What a process says that its fit cost.
pub(super) fn cost(
    command: &mut Command,
    folder: &Path,
    algorithm: Algorithm,
    eps: f64,
    seed: u64,
    answer: &Path,
) -> Option<Cost> {
    command.arg(algorithm.name()).args([folder, answer]);
    command.args(["--seed", &seed.to_string(), "--eps", &eps.to_string()]);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let cost = said.lines().last().and_then(|line| serde_json::from_str(line).ok());
    if !output.status.success() || cost.is_none() {
        eprintln!("*** {command:?} failed: {} ***\n{}", output.status, String::from_utf8_lossy(&output.stderr));
        return None;
    }
    cost
}
