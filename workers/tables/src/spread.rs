//! Moments and quantiles that neither overflow nor lose what is small.

use crate::{
    TableError,
    order::nth,
    watch::{PIECE, Watch},
};

/// Values of which moments are taken together.
const BLOCK: usize = 256;

/// Mean and spread of a stream of values.
#[derive(Debug, Clone, Default)]
pub(crate) struct Moments {
    block: Vec<f64>,
    total: Central,
}

/// Number, mean and sums of powers of the differences from it.
#[derive(Debug, Clone, Copy, Default)]
struct Central {
    number: f64,
    mean: f64,
    squares: f64,
    cubes: f64,
}

/// What moments say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) mean: f64,
    /// Of the values themselves, not of a population they were drawn from.
    pub(crate) sd: f64,
    /// Of the sample, with the usual correction (Joanes and Gill 1998, G1); 0 of fewer than three values.
    pub(crate) skewness: f64,
}

impl Moments {
    pub(crate) fn add(&mut self, value: f64) {
        self.block.push(value);
        if self.block.len() == BLOCK {
            self.total = self.total.with(Central::of(&self.block));
            self.block.clear();
        }
    }

    /// Infinite or NaN where values were too large to be squared.
    pub(crate) fn spread(&self) -> Spread {
        self.total.with(Central::of(&self.block)).spread()
    }
}

impl Central {
    fn of(values: &[f64]) -> Self {
        if values.is_empty() {
            return Self::default();
        }
        let number = values.len() as f64;
        let mean = values.iter().sum::<f64>() / number;
        let (mut squares, mut cubes) = (0.0, 0.0);
        for value in values {
            let difference = value - mean;
            squares += difference * difference;
            cubes += difference * difference * difference;
        }
        Self { number, mean, squares, cubes }
    }

    /// Of both together (Pébay 2008).
    fn with(self, other: Self) -> Self {
        if self.number == 0.0 || other.number == 0.0 {
            return if self.number == 0.0 { other } else { self };
        }
        let number = self.number + other.number;
        let difference = other.mean - self.mean;
        let (one, two) = (self.number / number, other.number / number);
        Self {
            number,
            mean: self.mean + difference * two,
            squares: self.squares + other.squares + difference * difference * self.number * two,
            cubes: self.cubes
                + other.cubes
                + difference.powi(3) * self.number * two * (one - two)
                + 3.0 * difference * (one * other.squares - two * self.squares),
        }
    }

    fn spread(self) -> Spread {
        let Self { number, mean, squares, cubes } = self;
        let variance = squares / number.max(1.0);
        let skewness = if number < 3.0 || squares == 0.0 {
            0.0
        } else {
            cubes / number / variance.powf(1.5) * (number * (number - 1.0)).sqrt() / (number - 2.0)
        };
        Spread { mean, sd: variance.sqrt(), skewness }
    }
}

/// Mean and spread of values up to 1e150, which are scaled if their cubes would be too large or too small.
pub(crate) fn spread(values: &[f64], watch: &Watch<'_>) -> Result<Spread, TableError> {
    let mut largest = 0.0_f64;
    for piece in values.chunks(PIECE) {
        watch.check()?;
        largest = piece.iter().fold(largest, |largest, value| largest.max(value.abs()));
    }
    let scale = if largest == 0.0 || (1e-60..1e60).contains(&largest) { 1.0 } else { largest.log2().floor().exp2() };
    let mut moments = Moments::default();
    for piece in values.chunks(PIECE) {
        watch.check()?;
        piece.iter().for_each(|value| moments.add(value / scale));
    }
    let Spread { mean, sd, skewness } = moments.spread();
    Ok(Spread { mean: mean * scale, sd: sd * scale, skewness })
}

/// The quantile of sorted values, between the two nearest (Hyndman and Fan 1996, type 7). NaN if there are none.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let at = share * last as f64;
    let below = (at as usize).min(last);
    between(sorted[below], sorted[(below + 1).min(last)], at - below as f64)
}

/// The same of values in any order.
pub(crate) fn quantile_of(values: &[f64], share: f64, watch: &Watch<'_>) -> Result<f64, TableError> {
    let Some(last) = values.len().checked_sub(1) else { return Ok(f64::NAN) };
    let at = share * last as f64;
    let below = (at as usize).min(last);
    let low = nth(values, below, watch)?;
    if at == below as f64 {
        return Ok(low);
    }
    Ok(between(low, nth(values, (below + 1).min(last), watch)?, at - below as f64))
}

fn between(low: f64, high: f64, share: f64) -> f64 {
    if share == 0.0 { low } else { low + (high - low) * share }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(values: &[f64]) -> Spread {
        super::spread(values, &Watch::nobody()).unwrap()
    }

    #[test]
    fn agrees_with_pandas() {
        // pandas: Series([1, 2, 2, 3, 10]).skew() and .std(ddof=0)
        let spread = spread(&[1.0, 2.0, 2.0, 3.0, 10.0]);
        assert!((spread.mean - 3.6).abs() < 1e-15);
        assert!((spread.sd - 3.261_901_286_060_018).abs() < 1e-12, "{}", spread.sd);
        assert!((spread.skewness - 2.028_699_102_080_332_7).abs() < 1e-12, "{}", spread.skewness);
    }

    #[test]
    fn is_the_same_in_blocks() {
        let values: Vec<f64> = (0..10_001).map(|at| f64::from(at * at % 997) + 1e9).collect();
        let (whole, parts) = (Central::of(&values).spread(), spread(&values));
        assert!((whole.mean - parts.mean).abs() < 1e-6 && (whole.sd - parts.sd).abs() < 1e-9);
        assert!((whole.skewness - parts.skewness).abs() < 1e-9);
    }

    #[test]
    fn stays_finite_and_keeps_the_small() {
        for scale in [1e150, 1e-150, 1e-300] {
            let spread = spread(&[-scale, scale, scale]);
            assert!((spread.sd / scale - (8.0_f64 / 9.0).sqrt()).abs() < 1e-12, "{spread:?}");
            assert!(spread.skewness.is_finite());
        }
        assert_eq!(spread(&[]), Spread { mean: 0.0, sd: 0.0, skewness: 0.0 });
    }

    #[test]
    fn quantiles_are_between_the_nearest() {
        let mut values = [4.0, 1.0, 3.0, 2.0];
        let quantile_of = |share| quantile_of(&values, share, &Watch::nobody()).unwrap();
        assert_eq!([0.0, 0.25, 0.5, 1.0].map(quantile_of), [1.0, 1.75, 2.5, 4.0]);
        values.sort_unstable_by(f64::total_cmp);
        assert_eq!([0.0, 0.25, 0.5, 1.0].map(|share| quantile(&values, share)), [1.0, 1.75, 2.5, 4.0]);
        assert!(quantile(&[], 0.5).is_nan());
    }
}
