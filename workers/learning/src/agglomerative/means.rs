//! Ward's clusters, known by their means and sizes.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::chain::Clusters;
use crate::Matrix;

/// Slots whose distances are taken at once.
const LANES: usize = 16;

/// Values that are looked at by one thread.
const PART: usize = 1 << 19;

/// Clusters of which the mean and the number of rows tell all: joining two adds `a b / (a + b)` times the squared distance of
/// their means to the sum of squares within clusters (Ward 1963). A distance is twice that.
pub(super) struct Means {
    columns: usize,
    slots: usize,
    live: usize,
    /// The rows that stand for the clusters.
    rows: Vec<u32>,
    /// How many rows each cluster has; 0 in an empty slot.
    sizes: Vec<f64>,
    /// For each [`LANES`] slots, column by column. Infinite in an empty slot.
    means: Vec<f64>,
}

/// Bytes that they take.
pub(super) const fn memory(rows: usize, columns: usize) -> u64 {
    let slots = rows.div_ceil(LANES) * LANES;
    // The copy when they are compacted takes three quarters more at most.
    (slots * columns * size_of::<f64>() * 7 / 4 + slots * (size_of::<f64>() + size_of::<u32>())) as u64
}

impl Means {
    /// Each row is a cluster.
    pub(super) fn of(data: &Matrix) -> Self {
        let (slots, columns) = (data.rows(), data.columns());
        let mut clusters = Self {
            columns,
            slots,
            live: slots,
            rows: (0..slots as u32).collect(),
            sizes: vec![0.0; slots.next_multiple_of(LANES)],
            means: vec![f64::INFINITY; slots.next_multiple_of(LANES) * columns],
        };
        clusters.sizes[..slots].fill(1.0);
        for slot in 0..slots {
            for column in 0..columns {
                *clusters.mean_mut(slot, column) = data.row(slot)[column];
            }
        }
        clusters
    }

    fn mean(&self, slot: usize, column: usize) -> f64 {
        self.means[self.at(slot, column)]
    }

    fn at(&self, slot: usize, column: usize) -> usize {
        (slot / LANES * self.columns + column) * LANES + slot % LANES
    }

    fn mean_mut(&mut self, slot: usize, column: usize) -> &mut f64 {
        let at = self.at(slot, column);
        &mut self.means[at]
    }
}

impl Clusters for Means {
    fn slots(&self) -> usize {
        self.slots
    }

    fn is_live(&self, slot: usize) -> bool {
        self.sizes[slot] > 0.0
    }

    fn row(&self, slot: usize) -> u32 {
        self.rows[slot]
    }

    fn distance(&self, a: usize, b: usize) -> f64 {
        let square = (0..self.columns).fold(0.0, |sum, column| {
            let difference = self.mean(b, column) - self.mean(a, column);
            sum + difference * difference
        });
        square * weight(self.sizes[a], self.sizes[b])
    }

    fn nearest(&self, slot: usize) -> (usize, f64) {
        let from: Vec<f64> = (0..self.columns).map(|column| self.mean(slot, column)).collect();
        let size = self.sizes[slot];
        let groups = (PART / (LANES * self.columns)).max(1);
        let search = |(part, (means, sizes)): (usize, (&[f64], &[f64]))| {
            let first = part * groups * LANES;
            let skip = slot.checked_sub(first).filter(|&skip| skip < sizes.len());
            let (at, distance) = Arch::new().dispatch(Nearest { from: &from, size, means, sizes, skip });
            (distance, first + at)
        };
        let parts =
            self.means.par_chunks(groups * LANES * self.columns).zip(self.sizes.par_chunks(groups * LANES)).enumerate();
        let least = |a: (f64, usize), b: (f64, usize)| if b < a { b } else { a };
        let (distance, at) = if self.sizes.len() <= groups * LANES {
            search((0, (&self.means, &self.sizes)))
        } else {
            parts.map(search).reduce(|| (f64::INFINITY, usize::MAX), least)
        };
        (at, distance)
    }

    fn length(&self, distance: f64) -> f64 {
        distance.sqrt()
    }

    fn merge(&mut self, low: usize, high: usize) {
        let (a, b) = (self.sizes[low], self.sizes[high]);
        for column in 0..self.columns {
            let mean = (self.mean(low, column) * a + self.mean(high, column) * b) / (a + b);
            *self.mean_mut(high, column) = mean;
            *self.mean_mut(low, column) = f64::INFINITY;
        }
        (self.sizes[low], self.sizes[high]) = (0.0, a + b);
        self.live -= 1;
    }

    fn compact(&mut self, moved: &mut dyn FnMut(usize, usize)) {
        if self.live > self.slots / 4 * 3 {
            return;
        }
        let mut to = 0;
        for from in (0..self.slots).filter(|&slot| self.sizes[slot] > 0.0).collect::<Vec<_>>() {
            if from != to {
                moved(from, to);
                self.rows[to] = self.rows[from];
                self.sizes[to] = self.sizes[from];
                for column in 0..self.columns {
                    *self.mean_mut(to, column) = self.mean(from, column);
                }
            }
            to += 1;
        }
        self.slots = to;
        self.sizes.truncate(to.next_multiple_of(LANES));
        self.sizes[to..].fill(0.0);
        self.means.truncate(self.sizes.len() * self.columns);
        for slot in to..self.sizes.len() {
            for column in 0..self.columns {
                *self.mean_mut(slot, column) = f64::INFINITY;
            }
        }
    }
}

fn weight(a: f64, b: f64) -> f64 {
    2.0 * a * b / (a + b)
}

/// The nearest of some slots to a cluster: the slot, counted from the first of them, and its distance.
struct Nearest<'a> {
    from: &'a [f64],
    size: f64,
    means: &'a [f64],
    sizes: &'a [f64],
    /// The cluster itself.
    skip: Option<usize>,
}

impl WithSimd for Nearest<'_> {
    type Output = (usize, f64);

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> (usize, f64) {
        // No fused operations: the distance of two clusters has the same bits from either, and as [`Clusters::distance`].
        let size = simd.splat_f64s(self.size);
        let twice = simd.splat_f64s(2.0 * self.size);
        let infinity = simd.splat_f64s(f64::INFINITY);
        let skip = simd.splat_f64s(self.skip.map_or(-1.0, |skip| skip as f64));
        let mut least = [f64::INFINITY; LANES];
        let mut found = [0.0; LANES];
        let mut slots: [f64; LANES] = std::array::from_fn(|lane| lane as f64);
        let step = simd.splat_f64s(LANES as f64);
        let (least_of, _) = S::as_mut_simd_f64s(&mut least);
        let (found_of, _) = S::as_mut_simd_f64s(&mut found);
        let (slots_of, _) = S::as_mut_simd_f64s(&mut slots);
        let vectors = LANES / S::F64_LANES;
        let (means, sizes) = (S::as_simd_f64s(self.means).0, S::as_simd_f64s(self.sizes).0);
        let groups = means.chunks_exact(self.from.len() * vectors).zip(sizes.chunks_exact(vectors));
        for (means, sizes) in groups {
            // Four vectors at once: enough sums to hide how long each takes, few enough to stay in registers.
            for first in (0..vectors).step_by(4) {
                let mut sums = [simd.splat_f64s(0.0); 4];
                for (from, means) in self.from.iter().zip(means.chunks_exact(vectors)) {
                    let from = simd.splat_f64s(*from);
                    let means = &means[first..first + 4];
                    for (sum, mean) in sums.iter_mut().zip(means) {
                        let difference = simd.sub_f64s(*mean, from);
                        *sum = simd.add_f64s(*sum, simd.mul_f64s(difference, difference));
                    }
                }
                for (lane, sum) in (first..).zip(sums) {
                    // An empty slot is infinitely far, and that times no weight is no number, which is not less either.
                    let (other, slot) = (sizes[lane], slots_of[lane]);
                    let weight = simd.div_f64s(simd.mul_f64s(twice, other), simd.add_f64s(size, other));
                    let distance = simd.mul_f64s(sum, weight);
                    let distance = simd.select_f64s(simd.equal_f64s(slot, skip), infinity, distance);
                    let is_less = simd.less_than_f64s(distance, least_of[lane]);
                    least_of[lane] = simd.select_f64s(is_less, distance, least_of[lane]);
                    found_of[lane] = simd.select_f64s(is_less, slot, found_of[lane]);
                    slots_of[lane] = simd.add_f64s(slot, step);
                }
            }
        }
        let best = (1..LANES)
            .fold(0, |best, lane| if (least[lane], found[lane]) < (least[best], found[best]) { lane } else { best });
        (found[best] as usize, least[best])
    }
}
