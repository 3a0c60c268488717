//! Moves rows on the map until those that belong together are near each other, and the others are not.

use pulp::Arch;
use rand::Rng;
use rayon::prelude::*;

use super::{curve::Curve, graph::Graph};
use crate::{LearningError, Stream, Watch, stream};

/// Rows that move with one stream of chance.
const PART: usize = 256;

/// Rows that push one away for each that pulls it.
const PUSHES: usize = 5;

/// Pushes that are worked out at once.
const LANES: usize = 8;

/// No row moves farther along an axis by one pull or push, at the start.
const FARTHEST: f32 = 4.0;

/// Stochastic gradient descent on the cross entropy of both fuzzy graphs (section 4.2 and algorithm 5 of the paper).
///
/// In umap-learn a pull moves both ends, one edge after the other. Here, all rows move at once, pulled and pushed from where
/// the others were at the end of the epoch before. Each follows how a neighbour would come towards it while both pull.
pub(super) fn optimise<const D: usize>(
    graph: &Graph,
    start: Vec<[f32; D]>,
    curve: Curve,
    epochs: u32,
    seed: u64,
    watch: Watch<'_>,
) -> Result<Vec<[f32; D]>, LearningError> {
    let mut before = start;
    let mut after = before.clone();
    let (arch, parts) = (Arch::new(), graph.rows().div_ceil(PART) as u64);
    for epoch in 1..epochs {
        watch.step(epoch as usize, epochs as usize)?;
        let forces = Forces { a: curve.a as f32, b: curve.b as f32, length: 1.0 - epoch as f32 / epochs as f32 };
        after.par_chunks_mut(PART).enumerate().try_for_each(|(part, after)| {
            watch.check()?;
            let mut chance = stream(seed, u64::from(epoch) * parts + part as u64);
            arch.dispatch(
                #[inline(always)]
                || {
                    for (row, place) in (part * PART..).zip(after) {
                        *place = forces.moved(graph, &before, row, epoch, &mut chance);
                    }
                },
            );
            Ok(())
        })?;
        std::mem::swap(&mut before, &mut after);
    }
    Ok(before)
}

#[derive(Clone, Copy)]
struct Forces {
    a: f32,
    b: f32,
    /// Of the steps.
    length: f32,
}

impl Forces {
    /// Where a row goes in an epoch.
    #[inline(always)]
    fn moved<const D: usize>(
        self,
        graph: &Graph,
        places: &[[f32; D]],
        row: usize,
        epoch: u32,
        chance: &mut Stream,
    ) -> [f32; D] {
        let mut place = places[row];
        let (neighbours, rates) = graph.of_row(row);
        let mut pushes = 0;
        for (neighbour, rate) in neighbours.iter().zip(rates) {
            // An edge is used as often as it weighs, evenly over the epochs.
            if (epoch as f32 * rate) as u32 > ((epoch - 1) as f32 * rate) as u32 {
                self.pull(&mut place, places[*neighbour as usize]);
                pushes += PUSHES;
                while pushes >= LANES {
                    self.push(&mut place, places, row, LANES, chance);
                    pushes -= LANES;
                }
            }
        }
        if pushes > 0 {
            self.push(&mut place, places, row, pushes, chance);
        }
        place
    }

    /// Towards a neighbour: by its edge, and by that of the neighbour.
    #[inline(always)]
    fn pull<const D: usize>(self, place: &mut [f32; D], mut other: [f32; D]) {
        for _ in 0..2 {
            let mut square = 0.0;
            for (place, other) in place.iter().zip(&other) {
                square += (place - other) * (place - other);
            }
            if square > 0.0 {
                let power = power(square, self.b);
                let slope = -2.0 * self.a * self.b * power / (square * (self.a * power + 1.0));
                for (place, other) in place.iter_mut().zip(&mut other) {
                    let step = self.length * (slope * (*place - *other)).clamp(-FARTHEST, FARTHEST);
                    *place += step;
                    *other -= step;
                }
            }
        }
    }

    /// Away from some rows by chance.
    #[inline(always)]
    fn push<const D: usize>(
        self,
        place: &mut [f32; D],
        places: &[[f32; D]],
        row: usize,
        count: usize,
        chance: &mut Stream,
    ) {
        let mut apart = [[0.0_f32; LANES]; D];
        for lane in (0..count).step_by(2) {
            let drawn = chance.next_u64();
            for (lane, drawn) in [(lane, drawn >> 32), (lane + 1, drawn & 0xFFFF_FFFF)] {
                let other = ((drawn * places.len() as u64) >> 32) as usize;
                // Past the count, and from itself, it is at no distance, which does not push.
                if lane < count && other != row {
                    for ((apart, place), other) in apart.iter_mut().zip(place.iter()).zip(&places[other]) {
                        apart[lane] = place - other;
                    }
                }
            }
        }
        let mut slopes = [0.0_f32; LANES];
        for (lane, slope) in slopes.iter_mut().enumerate() {
            let mut square = 0.0;
            for apart in &apart {
                square += apart[lane] * apart[lane];
            }
            let away = 2.0 * self.b / ((0.001 + square) * (self.a * power(square, self.b) + 1.0));
            *slope = if square > 0.0 { away } else { 0.0 };
        }
        for (place, apart) in place.iter_mut().zip(&apart) {
            let mut step = 0.0;
            for (slope, apart) in slopes.iter().zip(apart) {
                step += (slope * apart).clamp(-FARTHEST, FARTHEST);
            }
            *place += self.length * step;
        }
    }
}

/// `x` to the power of `exponent`, within some millionths; of a number that is not positive, any. It has no branch, and is
/// the same on every machine.
#[inline(always)]
fn power(x: f32, exponent: f32) -> f32 {
    // The bits of the root of a half: what is left of the exponent lies between it and the root of two.
    const HALF_ROOT: u32 = 0x3F35_04F3;
    let bits = x.to_bits().wrapping_add(0x3F80_0000 - HALF_ROOT);
    let whole = (bits >> 23) as i32 - 127;
    let part = f32::from_bits((bits & 0x007F_FFFF) + HALF_ROOT);
    // The series of the area tangent.
    let s = (part - 1.0) / (part + 1.0);
    let s2 = s * s;
    let series = 2.0 + s2 * (2.0 / 3.0 + s2 * (2.0 / 5.0 + s2 * (2.0 / 7.0)));
    let logarithm = whole as f32 + std::f32::consts::LOG2_E * s * series;
    let y = (exponent * logarithm).clamp(-126.0, 126.0);
    // Adding this number leaves the nearest whole number in the low bits.
    const ROUNDER: f32 = 12_582_912.0;
    let shifted = y + ROUNDER;
    let f = (y - (shifted - ROUNDER)) * std::f32::consts::LN_2;
    let series = 1.0 + f * (1.0 + f * (0.5 + f * (1.0 / 6.0 + f * (1.0 / 24.0 + f * (1.0 / 120.0 + f / 720.0)))));
    let scale = shifted.to_bits().wrapping_sub(ROUNDER.to_bits()).wrapping_add(127) << 23;
    series * f32::from_bits(scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_are_nearly_exact() {
        for exponent in [0.5, 0.790_495_f32, 0.895_061, 1.0, 2.5, 10.0] {
            for step in -40..40 {
                let x = 1.37_f32.powi(step);
                let exact = f64::from(x).powf(f64::from(exponent));
                if (1e-30..1e30).contains(&exact) {
                    let error = f64::from(power(x, exponent)) / exact - 1.0;
                    assert!(error.abs() < 2e-5, "{x} ** {exponent}: {error}");
                }
            }
        }
    }

    #[test]
    fn a_pull_brings_nearer_and_a_push_farther() {
        let forces = Forces { a: 1.577, b: 0.895, length: 0.1 };
        let mut place = [3.0, 4.0];
        forces.pull(&mut place, [0.0, 0.0]);
        assert!(place[0] < 3.0 && place[1] < 4.0 && place[0] > 0.0);
        let mut place = [0.3, 0.4];
        forces.push(&mut place, &[[0.3, 0.4], [0.0, 0.0]], 0, 8, &mut stream(1, 1));
        assert!(place[0] > 0.3 && place[1] > 0.4);
    }
}
