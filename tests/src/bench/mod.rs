//! Figures: each is the median of several runs, with the spread beside it, so that a reader sees the machine's noise.

pub mod doors;
pub mod http;
pub mod insight;
mod load;
pub mod media;
pub mod messaging;
pub mod people;
pub mod queue;
pub mod schedules;

use serde::Serialize;

/// One measured figure.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// The median.
    pub value: f64,
    /// The unit of the value.
    pub unit: &'static str,
    /// What it should be, if there is a goal.
    pub goal: Option<String>,
    /// Whether it is.
    pub met: Option<bool>,
    /// The smallest and the largest value.
    pub spread: (f64, f64),
}

/// What a figure should be.
#[derive(Debug, Clone, Copy)]
pub enum Goal {
    /// This or less.
    AtMost(f64),
    /// This or more.
    AtLeast(f64),
    /// Whatever it is.
    None,
}

impl Figure {
    /// The figure of these values.
    pub fn of(name: impl Into<String>, unit: &'static str, goal: Goal, values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let value = quantile(&sorted, 0.5);
        let (text, met) = match goal {
            Goal::AtMost(most) => (Some(format!("<= {most}")), Some(value <= most)),
            Goal::AtLeast(least) => (Some(format!(">= {least}")), Some(value >= least)),
            Goal::None => (None, None),
        };
        let spread = (sorted.first().copied().unwrap_or(f64::NAN), sorted.last().copied().unwrap_or(f64::NAN));
        Self { name: name.into(), value, unit, goal: text, met, spread }
    }
}

/// A quantile of sorted values (nearest rank).
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or(f64::NAN)
}

/// What prints every figure as it comes, as a line of a table for people or as a JSON object: a run takes minutes, and what
/// was measured before it broke off should not be lost.
pub struct Report {
    json: bool,
    /// Whether every goal so far is met.
    pub met: bool,
}

impl Report {
    /// Starts one.
    pub fn start(json: bool) -> Self {
        if !json {
            println!("{:<36} {:>12} {:<8} {:<12} {:<5} smallest .. largest", "figure", "median", "unit", "goal", "met");
        }
        Self { json, met: true }
    }

    /// Prints a figure.
    pub fn add(&mut self, figure: &Figure) {
        self.met &= figure.met != Some(false);
        if self.json {
            println!("{}", serde_json::to_string(figure).unwrap());
            return;
        }
        let goal = figure.goal.as_deref().unwrap_or("");
        let met = figure.met.map_or("", |met| if met { "yes" } else { "NO" });
        let (value, (least, most)) = (show(figure.value), figure.spread);
        println!(
            "{:<36} {value:>12} {:<8} {goal:<12} {met:<5} {} .. {}",
            figure.name,
            figure.unit,
            show(least),
            show(most)
        );
    }
}

fn show(value: f64) -> String {
    if value.abs() >= 1_000.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}
