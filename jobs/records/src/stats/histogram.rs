//! How long things took: how many in each span of a logarithmic scale. Sums of histograms are exact.

use std::collections::BTreeMap;

use fourmi_model::Percentiles;
use serde::{Deserialize, Serialize};

/// Spans in which a time doubles: the middle of one is right to 4.5 %.
const SPANS: f64 = 8.0;

/// Beyond 34 years all is one.
const LAST: f64 = 40.0 * SPANS;

/// Numbers by span. A number may be below nothing while histograms are taken from others.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Vec<(u16, i64)>", into = "Vec<(u16, i64)>")]
pub(crate) struct Histogram(BTreeMap<u16, i64>);

impl Histogram {
    /// Adds a time in milliseconds. The clocks of machines differ: none is less than no time.
    pub(crate) fn note(&mut self, ms: i64) {
        #[expect(clippy::cast_precision_loss, reason = "a span is wider than what is lost")]
        let doublings = (ms.max(0) as f64 + 1.0).log2();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it lies between 0 and LAST")]
        let span = (doublings * SPANS).floor().min(LAST) as u16;
        *self.0.entry(span).or_default() += 1;
    }

    /// Adds another so many times.
    pub(crate) fn add(&mut self, other: &Self, times: i64) {
        for (span, number) in &other.0 {
            *self.0.entry(*span).or_default() += number * times;
        }
    }

    /// `None` if there is nothing in it.
    pub(crate) fn percentiles(&self) -> Option<Percentiles> {
        Some(Percentiles {
            p50_ms: self.percentile(50)?,
            p90_ms: self.percentile(90)?,
            p95_ms: self.percentile(95)?,
            p99_ms: self.percentile(99)?,
        })
    }

    /// What so many of a hundred do not exceed, by the nearest rank, to the tenth of a millisecond.
    fn percentile(&self, of_hundred: i64) -> Option<f64> {
        let total: i64 = self.0.values().filter(|number| **number > 0).sum();
        let rank = (total * of_hundred + 99) / 100;
        let mut before = 0;
        let span = self.0.iter().find_map(|(span, number)| {
            before += (*number).max(0);
            (total > 0 && before >= rank).then_some(*span)
        })?;
        let middle = ((f64::from(span) + 0.5) / SPANS).exp2() - 1.0;
        Some((middle * 10.0).round() / 10.0)
    }
}

impl From<Vec<(u16, i64)>> for Histogram {
    fn from(numbers: Vec<(u16, i64)>) -> Self {
        Self(numbers.into_iter().collect())
    }
}

impl From<Histogram> for Vec<(u16, i64)> {
    fn from(histogram: Histogram) -> Self {
        histogram.0.into_iter().filter(|(_, number)| *number != 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_right_to_a_twentieth() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.percentiles(), None);
        (1..=10_000).for_each(|ms| histogram.note(ms));
        let Percentiles { p50_ms, p90_ms, p95_ms, p99_ms } = histogram.percentiles().unwrap();
        for (is, should_be) in [(p50_ms, 5_000.0), (p90_ms, 9_000.0), (p95_ms, 9_500.0), (p99_ms, 9_900.0)] {
            assert!((is / should_be - 1.0_f64).abs() < 0.05, "{is} for {should_be}");
        }
    }

    #[test]
    fn what_is_taken_away_was_never_there() {
        let (mut one, mut other) = (Histogram::default(), Histogram::default());
        [-5, 0, 17, i64::MAX].into_iter().for_each(|ms| one.note(ms));
        other.note(900);
        let before = one.clone();
        one.add(&other, 1);
        assert_ne!(one, before);
        one.add(&other, -1);
        let text = serde_json::to_string(&one).unwrap();
        assert_eq!(text, serde_json::to_string(&before).unwrap());
        assert_eq!(serde_json::from_str::<Histogram>(&text).unwrap(), before);
    }
}
