//! Clusters where rows lie densely, at every density: HDBSCAN (Campello, Moulavi and Sander 2013; Campello, Moulavi, Zimek and
//! Sander 2015 with the outlier scores; McInnes and Healy 2017).

use fourmi_kinds::{ClusterSelection, HdbscanOptions};

use crate::boxes::Boxes;
use crate::spanning::{self, Merge, merges, spanning_tree};
use crate::{LearningError, Matrix, Watch};

/// The farthest neighbour whose distance says how dense it is, if none is asked for.
const MOST_SAMPLES: u32 = 10_000;

/// In no cluster, or of no cluster.
const NONE: u32 = u32::MAX;

/// Clusters of rows that lie densely, at every density.
#[derive(Debug, Clone, PartialEq)]
pub struct Hdbscan {
    /// The cluster of each row, in the order of their first rows; -1 of rows in none.
    pub labels: Vec<i32>,
    /// How firmly each row belongs to its cluster: from 0, as rows in none, to 1.
    pub probabilities: Vec<f64>,
    /// How far each row lies from the densest rows of the cluster that it leaves last (GLOSH): from 0 to 1.
    pub outlier_scores: Vec<f64>,
}

/// Clusters that last longest, or the smallest ones, of the tree in which rows are joined by their mutual reachability: their
/// distance, but no less than that of either to its `min_samples`th nearest, itself the first (as scikit-learn counts; the
/// `hdbscan` package counts without itself). All rows are never one cluster.
///
/// # Errors
/// [`LearningError::Cancelled`]
pub fn fit(data: &Matrix, options: &HdbscanOptions, watch: Watch<'_>) -> Result<Hdbscan, LearningError> {
    let rows = data.rows();
    if rows < 2 {
        return Ok(Hdbscan { labels: vec![-1; rows], probabilities: vec![0.0; rows], outlier_scores: vec![0.0; rows] });
    }
    let min_cluster_size = options.min_cluster_size.max(2);
    let min_samples = min_samples(options);
    let boxes = Boxes::of(data, watch.part(0.0, 0.05))?;
    let places: Vec<u32> = (0..rows as u32).collect();
    let core = boxes.nth_distances(&places, min_samples, watch.part(0.05, 0.4))?;
    let edges = spanning_tree(&boxes, Some(&core), watch.part(0.4, 1.0))?;
    drop((boxes, places, core));
    let merges = merges(edges);
    watch.check()?;
    let tree = Condensed::of(&merges, min_cluster_size);
    watch.step(1, 1)?;
    Ok(tree.clusters(options.selection))
}

/// Bytes that [`fit`] takes, its result among them.
pub fn memory(rows: usize, columns: usize, options: &HdbscanOptions) -> u64 {
    let searching = 64 * (min_samples(options).min(rows) * 8 * 4 + rows / 2);
    let connecting = Boxes::memory(rows, columns) + (rows * 28 + searching) as u64 + spanning::memory(rows);
    // Merges, the clusters of all nodes, the leaving of all rows, the result.
    let condensing = rows * (24 + 8 + 4 + 32 + 16 + 20);
    connecting.max(condensing as u64)
}

/// By default the least size of a cluster. Of a very large one so many neighbours tell as much about the density.
fn min_samples(options: &HdbscanOptions) -> usize {
    options.min_samples.unwrap_or(options.min_cluster_size.clamp(2, MOST_SAMPLES)) as usize
}

/// The tree of merges without those that only add a few rows. Density is one over distance.
struct Condensed {
    /// The cluster that each row leaves last, and the density at which it does.
    left: Vec<(u32, f64)>,
    /// A cluster comes after the one that it is a part of; the first is all rows.
    clusters: Vec<Cluster>,
}

struct Cluster {
    parent: u32,
    /// The density at which it parts from its parent.
    birth: f64,
    /// The highest density at which anything leaves it.
    death: f64,
    /// The sum over its rows of the range of densities at which they are in it.
    stability: f64,
    has_parts: bool,
}

impl Condensed {
    fn of(merges: &[Merge], min_cluster_size: u32) -> Self {
        let rows = merges.len() + 1;
        let root = Cluster { parent: NONE, birth: 0.0, death: 0.0, stability: 0.0, has_parts: false };
        let mut tree = Self { left: vec![(NONE, 0.0); rows], clusters: vec![root] };
        // The cluster of each node of the tree of merges, and the density at which it has left it, if it has.
        let mut nodes: Vec<(u32, f64)> = vec![(NONE, f64::NAN); merges.len()];
        nodes[merges.len() - 1].0 = 0;
        let size = |node: u32| (node as usize).checked_sub(rows).map_or(1, |merge| merges[merge].size);
        for (at, merge) in merges.iter().enumerate().rev() {
            let (cluster, left) = nodes[at];
            let density = 1.0 / merge.distance;
            let is_split = left.is_nan() && size(merge.a).min(size(merge.b)) >= min_cluster_size;
            for node in [merge.a, merge.b] {
                let state = if !left.is_nan() {
                    (cluster, left)
                } else if is_split {
                    tree.leave(cluster, density, size(node));
                    (tree.split(cluster, density), f64::NAN)
                } else if size(node) >= min_cluster_size {
                    (cluster, f64::NAN)
                } else {
                    tree.leave(cluster, density, size(node));
                    (cluster, density)
                };
                match (node as usize).checked_sub(rows) {
                    Some(merge) => nodes[merge] = state,
                    None => tree.left[node as usize] = state,
                }
            }
        }
        tree
    }

    /// So many rows leave a cluster.
    fn leave(&mut self, cluster: u32, density: f64, rows: u32) {
        let cluster = &mut self.clusters[cluster as usize];
        cluster.death = cluster.death.max(density);
        // What is infinitely dense from the start on (equal rows) lasts no longer.
        let range = if cluster.birth < density { density - cluster.birth } else { 0.0 };
        cluster.stability += range * f64::from(rows);
    }

    /// A part of a cluster becomes one of its own.
    fn split(&mut self, parent: u32, birth: f64) -> u32 {
        self.clusters[parent as usize].has_parts = true;
        self.clusters.push(Cluster { parent, birth, death: 0.0, stability: 0.0, has_parts: false });
        self.clusters.len() as u32 - 1
    }

    fn clusters(&self, selection: ClusterSelection) -> Hdbscan {
        let selected = match selection {
            ClusterSelection::Eom => self.most_stable(),
            ClusterSelection::Leaf => self.clusters.iter().map(|cluster| !cluster.has_parts).collect(),
        };
        let owners = self.owners(&selected);
        let mut numbers = vec![-1; self.clusters.len()];
        let mut next = 0;
        let mut labels = Vec::with_capacity(self.left.len());
        let mut probabilities = Vec::with_capacity(self.left.len());
        for &(cluster, density) in &self.left {
            let owner = owners[cluster as usize];
            if owner == NONE {
                labels.push(-1);
                probabilities.push(0.0);
                continue;
            }
            let number = &mut numbers[owner as usize];
            if *number < 0 {
                *number = next;
                next += 1;
            }
            labels.push(*number);
            let death = self.clusters[owner as usize].death;
            probabilities.push(if density < death { density / death } else { 1.0 });
        }
        Hdbscan { labels, probabilities, outlier_scores: self.outlier_scores() }
    }

    /// Clusters that are more stable than all that they fall into together (excess of mass).
    fn most_stable(&self) -> Vec<bool> {
        let mut parts = vec![0.0; self.clusters.len()];
        let mut selected = vec![false; self.clusters.len()];
        for (at, cluster) in self.clusters.iter().enumerate().skip(1).rev() {
            selected[at] = cluster.stability >= parts[at];
            parts[cluster.parent as usize] += cluster.stability.max(parts[at]);
        }
        selected
    }

    /// The outermost selected cluster, other than all rows, that each cluster lies in.
    fn owners(&self, selected: &[bool]) -> Vec<u32> {
        let mut owners = vec![NONE; self.clusters.len()];
        for (at, cluster) in self.clusters.iter().enumerate().skip(1) {
            let outer = owners[cluster.parent as usize];
            owners[at] = if outer == NONE && selected[at] { at as u32 } else { outer };
        }
        owners
    }

    fn outlier_scores(&self) -> Vec<f64> {
        let mut densest: Vec<f64> = self.clusters.iter().map(|cluster| cluster.death).collect();
        for (at, cluster) in self.clusters.iter().enumerate().skip(1).rev() {
            let parent = cluster.parent as usize;
            densest[parent] = densest[parent].max(densest[at]);
        }
        let score = |&(cluster, density): &(u32, f64)| match densest[cluster as usize] {
            densest if density >= densest => 0.0,
            f64::INFINITY => 1.0,
            densest => (densest - density) / densest,
        };
        self.left.iter().map(score).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boxes::tests::{odd_rows, on_threads, rows, stops};

    fn options(min_cluster_size: u32, selection: ClusterSelection) -> HdbscanOptions {
        HdbscanOptions { min_cluster_size, min_samples: None, selection }
    }

    /// Runs of numbers, so far from each other as given.
    fn runs(runs: &[(f64, usize, f64)]) -> Matrix {
        let run = |&(from, rows, step): &(f64, usize, f64)| (0..rows).map(move |at| from + at as f64 * step);
        Matrix::new(1, runs.iter().flat_map(run).collect()).unwrap()
    }

    #[test]
    fn runs_are_clusters_and_what_lies_far_off_is_noise() {
        let data = runs(&[(0.0, 10, 0.125), (40.0, 1, 1.0), (9.0, 8, 0.125)]);
        for selection in [ClusterSelection::Eom, ClusterSelection::Leaf] {
            let found = fit(&data, &options(3, selection), Watch::nobody()).unwrap();
            assert_eq!(found.labels, [vec![0; 10], vec![-1], vec![1; 8]].concat());
            assert_eq!((found.probabilities[5], found.probabilities[10]), (1.0, 0.0));
            assert!(found.outlier_scores[10] > 0.9 && found.outlier_scores[4] == 0.0);
        }
    }

    #[test]
    fn the_most_stable_clusters_are_not_always_the_smallest() {
        // Two pairs of runs, each pair nearly one run.
        let data = runs(&[(0.0, 10, 0.1), (1.1, 10, 0.1), (50.0, 10, 0.1), (51.1, 10, 0.1)]);
        let clusters = |selection| {
            let found = fit(&data, &options(4, selection), Watch::nobody()).unwrap();
            found.labels.into_iter().max()
        };
        assert_eq!((clusters(ClusterSelection::Eom), clusters(ClusterSelection::Leaf)), (Some(1), Some(3)));
    }

    #[test]
    fn odd_rows_are_no_trouble() {
        for data in odd_rows() {
            for (size, selection) in
                [(2, ClusterSelection::Eom), (5, ClusterSelection::Leaf), (1_000, ClusterSelection::Eom)]
            {
                let found = fit(&data, &options(size, selection), Watch::nobody()).unwrap();
                assert_eq!(found.labels.len(), data.rows());
                let is_share = |share: &f64| (0.0..=1.0).contains(share);
                assert!(found.probabilities.iter().all(is_share), "{:?}", found.probabilities);
                assert!(found.outlier_scores.iter().all(is_share), "{:?}", found.outlier_scores);
            }
        }
    }

    #[test]
    fn clusters_are_numbered_by_their_first_rows() {
        let data = rows(600, 3, 2);
        let found = fit(&data, &options(10, ClusterSelection::Eom), Watch::nobody()).unwrap();
        let mut next = 0;
        for label in found.labels {
            assert!(label <= next);
            next = next.max(label + 1);
        }
        assert!(next > 2);
    }

    #[test]
    fn large_clusters_need_no_more_than_so_many_neighbours() {
        let of = |size, samples| {
            min_samples(&HdbscanOptions { min_samples: samples, ..options(size, ClusterSelection::Eom) })
        };
        assert_eq!([of(15, None), of(15, Some(3)), of(1, None), of(1_000_000, None)], [15, 3, 2, 10_000]);
        let bytes = |size| memory(100_000, 3, &options(size, ClusterSelection::Eom));
        assert!(bytes(1_000) < bytes(10_000) && bytes(10_000) == bytes(1_000_000));
    }

    #[test]
    fn threads_make_no_difference() {
        let data = rows(3_000, 3, 8);
        on_threads(|| fit(&data, &options(15, ClusterSelection::Eom), Watch::nobody()).unwrap());
    }

    #[test]
    fn it_stops_when_told_to() {
        let data = rows(2_000, 3, 8);
        stops(|watch| fit(&data, &options(15, ClusterSelection::Eom), watch));
    }
}
