//! How strongly rows on the map belong together, by their distance.

/// Distances at which the curve is fitted.
const POINTS: usize = 300;

/// The curve 1 / (1 + a x^2b).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Curve {
    pub(super) a: f64,
    pub(super) b: f64,
}

impl Curve {
    /// The one nearest to 1 up to the least distance, and exponential decay past it, from 0 to 3, by the method of Levenberg
    /// and Marquardt. Where the least distance is above 1, decay is as much slower.
    pub(super) fn of(least_distance: f64) -> Self {
        let spread = least_distance.max(1.0);
        let target = |x: f64| if x < least_distance { 1.0 } else { ((least_distance - x) / spread).exp() };
        let points: Vec<_> = (0..POINTS).map(|at| 3.0 * spread * at as f64 / (POINTS - 1) as f64).collect();
        let error = |curve: Self| points.iter().map(|x| (curve.at(*x) - target(*x)).powi(2)).sum::<f64>();
        let mut curve = Self { a: 1.0, b: 1.0 };
        let mut best = error(curve);
        let mut damping = 1e-3;
        for _ in 0..1000 {
            let (mut aa, mut ab, mut bb, mut a, mut b) = (0.0, 0.0, 0.0, 0.0, 0.0);
            for x in &points[1..] {
                let (value, power) = (curve.at(*x), x.powf(2.0 * curve.b));
                let slope = -value * value * power;
                let (by_a, by_b, off) = (slope, slope * curve.a * 2.0 * x.ln(), target(*x) - value);
                (aa, ab, bb) = (aa + by_a * by_a, ab + by_a * by_b, bb + by_b * by_b);
                (a, b) = (a + by_a * off, b + by_b * off);
            }
            let (aa, bb) = (aa * (1.0 + damping), bb * (1.0 + damping));
            let determinant = aa * bb - ab * ab;
            let step = Self { a: (a * bb - b * ab) / determinant, b: (b * aa - a * ab) / determinant };
            let next = Self { a: curve.a + step.a, b: curve.b + step.b };
            let error = error(next);
            if next.a > 0.0 && next.b > 0.0 && error < best {
                let gain = best - error;
                (curve, best, damping) = (next, error, damping / 10.0);
                if gain < 1e-15 {
                    break;
                }
            } else {
                damping *= 10.0;
                if damping > 1e12 {
                    break;
                }
            }
        }
        curve
    }

    fn at(self, x: f64) -> f64 {
        1.0 / (1.0 + self.a * x.powf(2.0 * self.b))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_that_of_umap_learn() {
        // umap.umap_.find_ab_params(1.0, min_dist)
        for (least, a, b) in
            [(0.0, 1.932_808_397_354_7, 0.790_494_973_283_5), (0.1, 1.576_943_460_317_7, 0.895_060_878_162_4)]
        {
            let curve = Curve::of(least);
            assert!((curve.a - a).abs() < 1e-5 && (curve.b - b).abs() < 1e-5, "{curve:?}");
        }
    }

    #[test]
    fn there_is_one_for_every_distance() {
        for tenth in 0..=30 {
            let curve = Curve::of(f64::from(tenth) / 10.0);
            assert!(curve.a > 0.0 && curve.a.is_finite() && (0.5..50.0).contains(&curve.b), "{tenth} {curve:?}");
        }
    }
}
