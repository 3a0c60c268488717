//! Columns on one scale.

use fourmi_kinds::{Scale, Scaling};

use crate::{
    spread::{quantile_of, spread},
    value::LARGEST,
};

/// Brings values to the scale. Gives `false` if there was nothing to divide them by.
pub(crate) fn scale(values: &mut [f64], options: &Scale) -> bool {
    let lowest = values.iter().copied().fold(f64::INFINITY, f64::min);
    if options.log_skewed && lowest >= 0.0 && spread(values).skewness > 1.0 {
        values.iter_mut().for_each(|value| *value = value.ln_1p());
    }
    let (middle, width) = match options.method {
        Scaling::Off => return true,
        Scaling::Standard => {
            let spread = spread(values);
            (spread.mean, spread.sd)
        }
        Scaling::MinMax => {
            let lowest = values.iter().copied().fold(f64::INFINITY, f64::min);
            let highest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            (lowest, highest - lowest)
        }
        Scaling::Robust => {
            let mut ordered = values.to_vec();
            let [low, middle, high] = [0.25, 0.5, 0.75].map(|share| quantile_of(&mut ordered, share));
            (middle, high - low)
        }
    };
    let divides = width > 0.0;
    let width = if divides { width } else { 1.0 };
    for value in values {
        // Only a tiny interquartile range, or none, leaves values that large.
        *value = ((*value - middle) / width).clamp(-LARGEST, LARGEST);
    }
    divides
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scaled(method: Scaling, log_skewed: bool, values: &[f64]) -> Vec<f64> {
        let mut values = values.to_vec();
        scale(&mut values, &Scale { method, log_skewed });
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
        assert!(!scale(&mut [0.0, 0.0, 0.0, 0.0, 1.0], &Scale { method: Scaling::Robust, log_skewed: false }));
    }
}
