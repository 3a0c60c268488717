//! Merges found along chains of nearest neighbours (Benzécri 1982; Murtagh 1983; Müllner 2011, "Modern hierarchical,
//! agglomerative clustering algorithms", figure 3).

use crate::spanning::Edge;
use crate::{LearningError, Watch};

/// Clusters in slots, in an order that stays; and how far they are from each other.
pub(super) trait Clusters {
    /// Slots, some of which may be empty.
    fn slots(&self) -> usize;

    /// Whether there is a cluster in a slot.
    fn is_live(&self, slot: usize) -> bool;

    /// A row that stands for the cluster in a slot.
    fn row(&self, slot: usize) -> u32;

    /// How far two clusters are from each other.
    fn distance(&self, a: usize, b: usize) -> f64;

    /// The nearest other cluster, the first of equals, and how far it is.
    fn nearest(&self, slot: usize) -> (usize, f64);

    /// What distances stand for, which ascends with them.
    fn length(&self, distance: f64) -> f64;

    /// Joins two clusters, the lower slot first. The higher takes both, the lower becomes empty.
    fn merge(&mut self, low: usize, high: usize);

    /// Removes empty slots if there are many; calls back with each slot and what it becomes.
    ///
    /// # Errors
    /// [`LearningError::Cancelled`]
    fn compact(&mut self, watch: Watch<'_>, moved: &mut dyn FnMut(usize, usize)) -> Result<(), LearningError>;
}

/// All merges, as edges between rows that stand for the clusters, in the order in which they are found. Among equals SciPy's
/// choice is made: the cluster before in the chain, else that in the first slot.
///
/// # Errors
/// [`LearningError::Cancelled`]
pub(super) fn edges(clusters: &mut impl Clusters, watch: Watch<'_>) -> Result<Vec<Edge>, LearningError> {
    let merges = clusters.slots() - 1;
    let mut edges = Vec::with_capacity(merges);
    let mut chain: Vec<usize> = Vec::new();
    let mut first = 0;
    while edges.len() < merges {
        // A merge leaves fewer pairs to look at than the one before.
        let left = (merges - edges.len()) as f64 / merges as f64;
        watch.step(((1.0 - left * left) * 1e6) as usize, 1_000_000)?;
        if chain.is_empty() {
            first = (first..clusters.slots()).find(|&slot| clusters.is_live(slot)).unwrap_or_default();
            chain.push(first);
        }
        let (low, high, distance) = loop {
            watch.check()?;
            let last = chain[chain.len() - 1];
            let (nearest, distance) = clusters.nearest(last);
            if let Some(&before) = chain.len().checked_sub(2).and_then(|before| chain.get(before))
                && clusters.distance(last, before) <= distance
            {
                chain.truncate(chain.len() - 2);
                break (last.min(before), last.max(before), clusters.distance(last, before));
            }
            chain.push(nearest);
        };
        edges.push(Edge { a: clusters.row(low), b: clusters.row(high), length: clusters.length(distance) });
        clusters.merge(low, high);
        clusters.compact(watch, &mut |from, to| {
            chain.iter_mut().filter(|slot| **slot == from).for_each(|slot| *slot = to);
            first = 0;
        })?;
    }
    Ok(edges)
}
