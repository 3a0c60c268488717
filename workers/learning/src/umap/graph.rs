//! The fuzzy graph: which rows belong together, and how strongly.

use rayon::prelude::*;

use crate::{LearningError, Watch, neighbours::Neighbours};

/// Rows that are worked on between two questions whether to go on.
const PART: usize = 256;

/// A symmetric graph with weights from 0 to 1.
#[derive(Debug)]
pub(super) struct Graph {
    /// Where the neighbours of each row begin, and after the last one, where they end.
    starts: Vec<usize>,
    neighbours: Vec<u32>,
    weights: Vec<f32>,
}

impl Graph {
    /// Neighbours belong together as strongly as either sees it, as if both were independent. Edges that would not be used
    /// once in so many epochs are left out.
    pub(super) fn of(found: Neighbours, epochs: u32, watch: Watch<'_>) -> Result<Self, LearningError> {
        let rows = found.indices.len() / found.k;
        let strengths = strengths(&found, watch.part(0.0, 0.5))?;
        let Neighbours { k, indices, distances } = found;
        drop(distances);
        let incoming = Self::incoming(rows, k, &indices, &strengths, watch)?;
        let mut graph = Self { starts: Vec::with_capacity(rows + 1), neighbours: vec![], weights: vec![] };
        graph.starts.push(0);
        let mut own = Vec::with_capacity(k);
        for row in 0..rows {
            if row.is_multiple_of(PART) {
                watch.part(0.5, 1.0).step(row, rows)?;
            }
            own.clear();
            own.extend(indices[row * k..][..k].iter().copied().zip(strengths[row * k..][..k].iter().copied()));
            own.sort_unstable_by_key(|(neighbour, _)| *neighbour);
            graph.join(&own, incoming.edges(row));
        }
        drop(incoming);
        let mut largest = 0.0_f32;
        for weights in graph.weights.chunks(PART * k) {
            watch.check()?;
            largest = weights.iter().fold(largest, |largest, weight| largest.max(*weight));
        }
        graph.prune(largest / epochs as f32, watch)?;
        Ok(graph)
    }

    pub(super) fn rows(&self) -> usize {
        self.starts.len() - 1
    }

    /// The neighbours of a row, in their order, with their weights.
    pub(super) fn of_row(&self, row: usize) -> (&[u32], &[f32]) {
        let range = self.starts[row]..self.starts[row + 1];
        (&self.neighbours[range.clone()], &self.weights[range])
    }

    fn edges(&self, row: usize) -> impl Iterator<Item = (u32, f32)> {
        let (neighbours, weights) = self.of_row(row);
        neighbours.iter().copied().zip(weights.iter().copied())
    }

    /// Each edge the other way round.
    fn incoming(
        rows: usize,
        k: usize,
        indices: &[u32],
        strengths: &[f32],
        watch: Watch<'_>,
    ) -> Result<Self, LearningError> {
        let mut starts = vec![0; rows + 1];
        for indices in indices.chunks(PART * k) {
            watch.check()?;
            indices.iter().for_each(|to| starts[*to as usize + 1] += 1);
        }
        (0..rows).for_each(|row| starts[row + 1] += starts[row]);
        let mut next = starts.clone();
        let (mut neighbours, mut weights) = (vec![0; indices.len()], vec![0.0; indices.len()]);
        for (row, (indices, strengths)) in indices.chunks_exact(k).zip(strengths.chunks_exact(k)).enumerate() {
            if row.is_multiple_of(PART) {
                watch.check()?;
            }
            for (to, strength) in indices.iter().zip(strengths) {
                let at = &mut next[*to as usize];
                (neighbours[*at], weights[*at]) = (row as u32, *strength);
                *at += 1;
            }
        }
        Ok(Self { starts, neighbours, weights })
    }

    /// Adds a row by what it and the others see; both in the order of the neighbours.
    fn join(&mut self, own: &[(u32, f32)], others: impl Iterator<Item = (u32, f32)>) {
        let (mut own, mut others) = (own.iter().copied().peekable(), others.peekable());
        while let Some(next) = own.peek().into_iter().chain(others.peek()).map(|(neighbour, _)| *neighbour).min() {
            let own = own.next_if(|(neighbour, _)| *neighbour == next).map_or(0.0, |(_, strength)| strength);
            let other = others.next_if(|(neighbour, _)| *neighbour == next).map_or(0.0, |(_, strength)| strength);
            self.neighbours.push(next);
            self.weights.push(own + other - own * other);
        }
        self.starts.push(self.neighbours.len());
    }

    fn prune(&mut self, least: f32, watch: Watch<'_>) -> Result<(), LearningError> {
        let mut kept = 0;
        let mut from = 0;
        for row in 0..self.rows() {
            if row.is_multiple_of(PART) {
                watch.check()?;
            }
            let to = self.starts[row + 1];
            for edge in from..to {
                if self.weights[edge] >= least {
                    (self.neighbours[kept], self.weights[kept]) = (self.neighbours[edge], self.weights[edge]);
                    kept += 1;
                }
            }
            (from, self.starts[row + 1]) = (to, kept);
        }
        self.neighbours.truncate(kept);
        self.weights.truncate(kept);
        self.neighbours.shrink_to_fit();
        watch.check()?;
        self.weights.shrink_to_fit();
        watch.check()
    }
}

/// How strongly the neighbours of each row belong to it: the nearest fully, the others by how much farther they are, on a
/// scale on which all together are as many as the logarithm of their number (section 3.1 and algorithm 3 of the paper).
fn strengths(found: &Neighbours, watch: Watch<'_>) -> Result<Vec<f32>, LearningError> {
    let k = found.k;
    let mut strengths = vec![0.0; found.distances.len()];
    // The row itself counts among its neighbours.
    let mean = found.distances.iter().sum::<f64>() / (found.distances.len() / k * (k + 1)) as f64;
    let parts = strengths.par_chunks_mut(PART * k).zip(found.distances.par_chunks(PART * k));
    parts.try_for_each(|(strengths, distances)| {
        watch.check()?;
        for (strengths, distances) in strengths.chunks_exact_mut(k).zip(distances.chunks_exact(k)) {
            let nearest = distances.iter().copied().find(|distance| *distance > 0.0).unwrap_or(0.0);
            let mean = if nearest > 0.0 { distances.iter().sum::<f64>() / (k + 1) as f64 } else { mean };
            let bandwidth = bandwidth(distances, nearest).max(1e-3 * mean);
            for (strength, distance) in strengths.iter_mut().zip(distances) {
                let farther = distance - nearest;
                *strength = if farther > 0.0 { (-farther / bandwidth).exp() as f32 } else { 1.0 };
            }
        }
        Ok(())
    })?;
    Ok(strengths)
}

/// The bandwidth at which the neighbours add up to the binary logarithm of their number, itself one of them.
fn bandwidth(distances: &[f64], nearest: f64) -> f64 {
    let target = ((distances.len() + 1) as f64).log2();
    // In units of the farthest distance, so that the search takes as long at any scale.
    let unit = distances.last().map_or(0.0, |farthest| farthest - nearest);
    if unit <= 0.0 {
        return 0.0;
    }
    let (mut low, mut high, mut middle) = (0.0, f64::INFINITY, 1.0);
    for _ in 0..64 {
        let strength = |distance: &f64| (-(distance - nearest).max(0.0) / (unit * middle)).exp();
        let sum: f64 = distances.iter().map(strength).sum();
        if (sum - target).abs() < 1e-5 {
            break;
        }
        if sum > target {
            high = middle;
        } else {
            low = middle;
        }
        middle = if high.is_finite() { (low + high) / 2.0 } else { 2.0 * middle };
    }
    middle * unit
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Rows in a ring, the neighbours of each on both of its sides.
    pub(in crate::umap) fn ring(rows: u32) -> Neighbours {
        let indices = (0..rows).flat_map(|row| [(row + 1) % rows, (row + rows - 1) % rows]).collect();
        Neighbours { k: 2, indices, distances: vec![1.0; 2 * rows as usize] }
    }

    #[test]
    fn neighbours_add_up_to_the_logarithm_of_their_number() {
        let distances = [0.5, 0.7, 0.8, 1.5, 1.6, 3.0, 4.0];
        let bandwidth = bandwidth(&distances, 0.5);
        let sum: f64 = distances.iter().map(|distance| (-(distance - 0.5) / bandwidth).exp()).sum();
        assert!((sum - 3.0).abs() < 1e-4);
    }

    #[test]
    fn it_is_the_same_in_both_directions() {
        // Four rows on a line, at 0, 1, 3 and 7.
        let indices = vec![1, 2, 0, 2, 1, 0, 2, 1];
        let distances = vec![1.0, 3.0, 1.0, 2.0, 2.0, 3.0, 4.0, 6.0];
        let graph = Graph::of(Neighbours { k: 2, indices, distances }, 500, Watch::nobody()).unwrap();
        for row in 0..4 {
            let (neighbours, weights) = graph.of_row(row);
            assert!(neighbours.is_sorted());
            for (neighbour, weight) in neighbours.iter().zip(weights) {
                let (back, weights) = graph.of_row(*neighbour as usize);
                assert_eq!(weights[back.binary_search(&(row as u32)).unwrap()], *weight);
            }
        }
        assert_eq!(graph.of_row(0).1[0], 1.0);
    }

    #[test]
    fn it_stops_in_each_of_its_passes() {
        let asked = AtomicUsize::new(0);
        let run = |limit: usize| {
            asked.store(0, Ordering::Relaxed);
            let told = || asked.fetch_add(1, Ordering::Relaxed) >= limit;
            Graph::of(ring(10_000), 500, Watch::new(&told, &|_| {})).err()
        };
        assert_eq!(run(usize::MAX), None);
        let all = asked.load(Ordering::Relaxed);
        // Strengths, two passes for the other way round, both joined, the largest weight, and those that stay.
        assert!(all >= 6 * 10_000 / PART, "{all}");
        for limit in 0..all {
            assert_eq!(run(limit), Some(LearningError::Cancelled), "at {limit} of {all}");
        }
    }
}
