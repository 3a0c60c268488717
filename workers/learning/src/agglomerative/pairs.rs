//! Clusters known by the distances of all pairs of them.

use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use super::chain::Clusters;
use crate::boxes::squared;
use crate::{LearningError, Matrix, Watch};

/// Rows of the triangle that are filled by one thread.
const PART: usize = 64;

/// The distance of a cluster from two that are joined: from their own and their sizes (Lance and Williams 1967).
pub(super) type Update = fn(distances: [f64; 2], sizes: [f64; 2]) -> f64;

/// Complete linkage.
pub(super) fn farthest([a, b]: [f64; 2], _sizes: [f64; 2]) -> f64 {
    a.max(b)
}

/// Average linkage.
pub(super) fn average([a, b]: [f64; 2], [of_a, of_b]: [f64; 2]) -> f64 {
    (of_a * a + of_b * b) / (of_a + of_b)
}

/// The lower triangle of a matrix of distances: row by row, each up to the diagonal.
pub(super) struct Pairs {
    update: Update,
    live: usize,
    /// The rows that stand for the clusters.
    rows: Vec<u32>,
    /// How many rows each cluster has; 0 in an empty slot.
    sizes: Vec<f64>,
    distances: Vec<f64>,
}

/// Bytes that they take.
pub(super) const fn memory(rows: usize, columns: usize) -> u64 {
    (rows * rows.saturating_sub(1) / 2 * size_of::<f64>() + rows * (columns * size_of::<f64>() + 16)) as u64
}

/// Where a row of the triangle begins.
const fn start(slot: usize) -> usize {
    slot * slot.saturating_sub(1) / 2
}

impl Pairs {
    /// Each row is a cluster.
    ///
    /// # Errors
    /// [`LearningError::Cancelled`]
    pub(super) fn of(data: &Matrix, update: Update, watch: Watch<'_>) -> Result<Self, LearningError> {
        let rows = data.rows();
        let mut distances = vec![0.0; start(rows)];
        let mut rest = distances.as_mut_slice();
        let mut parts = Vec::new();
        for first in (0..rows).step_by(PART) {
            let last = rows.min(first + PART);
            let (part, after) = rest.split_at_mut(start(last) - start(first));
            parts.push((first..last, part));
            rest = after;
        }
        let done = AtomicUsize::new(0);
        parts.into_par_iter().try_for_each(|(slots, mut part)| {
            for slot in slots {
                let (row, after) = part.split_at_mut(slot);
                for (other, distance) in row.iter_mut().enumerate() {
                    *distance = squared(data.row(slot), data.row(other)).sqrt();
                }
                part = after;
                watch.step(done.fetch_add(slot, Ordering::Relaxed) + slot, start(rows))?;
            }
            Ok(())
        })?;
        Ok(Self { update, live: rows, rows: (0..rows as u32).collect(), sizes: vec![1.0; rows], distances })
    }

    /// Where the distance of two slots is.
    fn at(a: usize, b: usize) -> usize {
        start(a.max(b)) + a.min(b)
    }
}

impl Clusters for Pairs {
    fn slots(&self) -> usize {
        self.rows.len()
    }

    fn is_live(&self, slot: usize) -> bool {
        self.sizes[slot] > 0.0
    }

    fn row(&self, slot: usize) -> u32 {
        self.rows[slot]
    }

    fn distance(&self, a: usize, b: usize) -> f64 {
        self.distances[Self::at(a, b)]
    }

    fn nearest(&self, slot: usize) -> (usize, f64) {
        let mut nearest = (usize::MAX, f64::INFINITY);
        let mut look = |other: usize, distance: f64| {
            if distance < nearest.1 && self.sizes[other] > 0.0 {
                nearest = (other, distance);
            }
        };
        for (other, &distance) in self.distances[start(slot)..][..slot].iter().enumerate() {
            look(other, distance);
        }
        for other in slot + 1..self.slots() {
            look(other, self.distances[start(other) + slot]);
        }
        nearest
    }

    fn length(&self, distance: f64) -> f64 {
        distance
    }

    fn merge(&mut self, low: usize, high: usize) {
        let sizes = [self.sizes[low], self.sizes[high]];
        for other in (0..self.slots()).filter(|&other| other != low && other != high) {
            if self.sizes[other] > 0.0 {
                let (from, to) = (Self::at(other, low), Self::at(other, high));
                self.distances[to] = (self.update)([self.distances[from], self.distances[to]], sizes);
            }
        }
        (self.sizes[low], self.sizes[high]) = (0.0, sizes[0] + sizes[1]);
        self.live -= 1;
    }

    fn compact(&mut self, watch: Watch<'_>, moved: &mut dyn FnMut(usize, usize)) -> Result<(), LearningError> {
        if self.live > self.slots() / 4 * 3 {
            return Ok(());
        }
        let live: Vec<usize> = (0..self.slots()).filter(|&slot| self.is_live(slot)).collect();
        for (to, &from) in live.iter().enumerate() {
            watch.check()?;
            for (other, &of) in live[..to].iter().enumerate() {
                self.distances[start(to) + other] = self.distances[start(from) + of];
            }
            if to != from {
                moved(from, to);
            }
            (self.rows[to], self.sizes[to]) = (self.rows[from], self.sizes[from]);
        }
        self.distances.truncate(start(live.len()));
        self.rows.truncate(live.len());
        self.sizes.truncate(live.len());
        Ok(())
    }
}
