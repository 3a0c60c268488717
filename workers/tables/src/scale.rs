//! Columns on one scale.

use fourmi_kinds::{Scale, Scaling};

use crate::{
    TableError,
    spread::{quantile_of, spread},
    value::LARGEST,
    watch::{PIECE, Watch},
};

/// Brings values to the scale. Gives `false` if there was nothing to divide them by.
pub(crate) fn scale(values: &mut [f64], options: &Scale, watch: &Watch<'_>) -> Result<bool, TableError> {
    if options.log_skewed && bounds(values, watch)?.0 >= 0.0 && spread(values, watch)?.skewness > 1.0 {
        change(values, watch, f64::ln_1p)?;
    }
    let (middle, width) = match options.method {
        Scaling::Off => return Ok(true),
        Scaling::Standard => {
            let spread = spread(values, watch)?;
            (spread.mean, spread.sd)
        }
        Scaling::MinMax => {
            let (lowest, highest) = bounds(values, watch)?;
            (lowest, highest - lowest)
        }
        Scaling::Robust => {
            let quantile = |share| quantile_of(values, share, watch);
            let (low, middle, high) = (quantile(0.25)?, quantile(0.5)?, quantile(0.75)?);
            (middle, high - low)
        }
    };
    let divides = width > 0.0;
    let width = if divides { width } else { 1.0 };
    // Only a tiny interquartile range, or none, leaves values that large.
    change(values, watch, |value| ((value - middle) / width).clamp(-LARGEST, LARGEST))?;
    Ok(divides)
}

/// The smallest and the largest value.
fn bounds(values: &[f64], watch: &Watch<'_>) -> Result<(f64, f64), TableError> {
    let (mut lowest, mut highest) = (f64::INFINITY, f64::NEG_INFINITY);
    for piece in values.chunks(PIECE) {
        watch.check()?;
        for value in piece {
            (lowest, highest) = (lowest.min(*value), highest.max(*value));
        }
    }
    Ok((lowest, highest))
}

fn change(values: &mut [f64], watch: &Watch<'_>, to: impl Fn(f64) -> f64) -> Result<(), TableError> {
    for piece in values.chunks_mut(PIECE) {
        watch.check()?;
        piece.iter_mut().for_each(|value| *value = to(*value));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scaled(method: Scaling, log_skewed: bool, values: &[f64]) -> Vec<f64> {
        let mut values = values.to_vec();
        scale(&mut values, &Scale { method, log_skewed }, &Watch::nobody()).unwrap();
        values
    }

    fn assert_near(one: &[f64], other: &[f64]) {
        assert!(one.iter().zip(other).all(|(one, other)| (one - other).abs() < 1e-12), "{one:?} {other:?}");
    }

    #[test]
    fn agrees_with_scikit_learn() {
        // StandardScaler, MinMaxScaler, RobustScaler of [1, 2, 4, 9].
        let values = [1.0, 2.0, 4.0, 9.0];
        let sd = 9.5_f64.sqrt();
        assert_near(&scaled(Scaling::Standard, false, &values), &[-3.0 / sd, -2.0 / sd, 0.0, 5.0 / sd]);
        assert_near(&scaled(Scaling::MinMax, false, &values), &[0.0, 0.125, 0.375, 1.0]);
        assert_near(&scaled(Scaling::Robust, false, &values), &[-2.0 / 3.5, -1.0 / 3.5, 1.0 / 3.5, 6.0 / 3.5]);
        assert_near(&scaled(Scaling::Off, false, &values), &values);
    }

    #[test]
    fn takes_the_logarithm_of_skewed_columns() {
        let skewed = [0.0, 1.0, 1.0, 2.0, 100.0];
        assert_near(&scaled(Scaling::Off, true, &skewed), &skewed.map(f64::ln_1p));
        for even in [[0.0, 1.0, 2.0, 3.0, 4.0], [-1.0, 1.0, 1.0, 2.0, 100.0]] {
            assert_near(&scaled(Scaling::Off, true, &even), &even);
        }
    }

    #[test]
    fn stays_finite() {
        for values in [
            [-1e150, 0.0, 1e150, 1e150],
            [1e-300, 2e-300, 3e-300, 1e150],
            [0.0, 0.0, 0.0, 5e-324],
            [0.0, 0.0, 0.0, 1.0],
        ] {
            for method in [Scaling::Standard, Scaling::MinMax, Scaling::Robust, Scaling::Off] {
                for value in scaled(method, true, &values) {
                    assert!(value.abs() <= 1e150, "{method:?} {values:?} {value}");
                }
            }
        }
        let robust = Scale { method: Scaling::Robust, log_skewed: false };
        assert!(!scale(&mut [0.0, 0.0, 0.0, 0.0, 1.0], &robust, &Watch::nobody()).unwrap());
    }
}
