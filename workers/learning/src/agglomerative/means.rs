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
    means: Vec<[f64; LANES]>,
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
            means: vec![[f64::INFINITY; LANES]; slots.div_ceil(LANES) * columns],
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
        self.means[slot / LANES * self.columns + column][slot % LANES]
    }

    fn mean_mut(&mut self, slot: usize, column: usize) -> &mut f64 {
        &mut self.means[slot / LANES * self.columns + column][slot % LANES]
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
        let search = |(part, (means, sizes)): (usize, (&[[f64; LANES]], &[f64]))| {
            let first = part * groups * LANES;
            let skip = slot.checked_sub(first).filter(|&skip| skip < sizes.len());
            let (at, distance) = Arch::new().dispatch(Nearest { from: &from, size, means, sizes, skip });
            (distance, first + at)
        };
        let parts = self.means.par_chunks(groups * self.columns).zip(self.sizes.par_chunks(groups * LANES)).enumerate();
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
        self.means.truncate(to.div_ceil(LANES) * self.columns);
        for slot in to..self.sizes.len() {
            for column in 0..self.columns {
                *self.mean_mut(slot, column) = f64::INFINITY;
            }
        }
    }
}

#[inline(always)]
fn weight(a: f64, b: f64) -> f64 {
    2.0 * a * b / (a + b)
}

/// The nearest of some slots to a cluster: the slot, counted from the first of them, and its distance.
struct Nearest<'a> {
    from: &'a [f64],
    size: f64,
    means: &'a [[f64; LANES]],
    sizes: &'a [f64],
    /// The cluster itself.
    skip: Option<usize>,
}

impl WithSimd for Nearest<'_> {
    type Output = (usize, f64);

    // Plain loops of a fixed length, which the compiler turns into vectors of the architecture that was chosen.
    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) -> (usize, f64) {
        let mut least = [f64::INFINITY; LANES];
        let mut found = [0.0; LANES];
        let groups = self.means.chunks_exact(self.from.len()).zip(self.sizes.as_chunks::<LANES>().0);
        for (group, (means, sizes)) in groups.enumerate() {
            let mut sums = [0.0; LANES];
            for (from, means) in self.from.iter().zip(means) {
                for lane in 0..LANES {
                    let difference = means[lane] - from;
                    sums[lane] += difference * difference;
                }
            }
            for lane in 0..LANES {
                // An empty slot is infinitely far, and infinitely times no weight is no number, which is not less either.
                sums[lane] *= weight(self.size, sizes[lane]);
            }
            if let Some(skip) = self.skip.filter(|skip| skip / LANES == group) {
                sums[skip % LANES] = f64::INFINITY;
            }
            for lane in 0..LANES {
                let is_less = sums[lane] < least[lane];
                least[lane] = if is_less { sums[lane] } else { least[lane] };
                found[lane] = if is_less { group as f64 } else { found[lane] };
            }
        }
        let slot = |lane: usize| found[lane] as usize * LANES + lane;
        let best = (1..LANES).fold(
            0,
            |best, lane| {
                if (least[lane], slot(lane)) < (least[best], slot(best)) { lane } else { best }
            },
        );
        (slot(best), least[best])
    }
}
