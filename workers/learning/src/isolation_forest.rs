//! Rows that random cuts separate soon.

use std::sync::atomic::{AtomicUsize, Ordering};

use fourmi_kinds::IsolationForestOptions;
use pulp::Arch;
use rand::{RngExt, seq::index};
use rayon::prelude::*;

use crate::{LearningError, Matrix, Stream, Watch, parts::by_parts, stream};

/// Rows that one task scores.
const PART: usize = 512;

/// Rows that walk down a tree side by side, so that the processor need not wait for each step.
const ABREAST: usize = 8;

/// Euler's constant.
const EULER: f64 = 0.577_215_664_901_532_9;

/// How unlike the others rows are.
#[derive(Debug, Clone, PartialEq)]
pub struct Isolated {
    /// The score of each row, from 0 to 1: more is less like the others.
    pub scores: Vec<f64>,
    /// Rows with a higher score are anomalies.
    pub threshold: f64,
    /// What gave the scores, to ask it for reasons.
    pub forest: Forest,
}

/// Trees of random cuts.
#[derive(Debug, Clone, PartialEq)]
pub struct Forest {
    columns: usize,
    trees: Vec<Tree>,
    /// The mean length of a path if rows are all alike, times the number of trees.
    ordinary: f64,
}

/// A tree; node 0 is its root.
#[derive(Debug, Clone, PartialEq)]
struct Tree {
    nodes: Vec<Node>,
    /// Rows in each node.
    sizes: Vec<u32>,
    /// Of leaves: cuts on the way, and those that their rows would need to be alone.
    paths: Vec<f64>,
    /// Cuts on the longest way.
    height: usize,
}

/// A cut; or a leaf, which all rows leave for itself.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Node {
    /// Rows with a larger value go to the node after `left`.
    threshold: f64,
    column: u32,
    left: u32,
}

/// Isolation Forest (Liu, Ting and Zhou 2008): cuts rows by random values of random columns until they are alone. Those that
/// are alone soon are unlike the others: their score is 2^-(mean cuts / cuts needed if all were alike). As in scikit-learn a
/// column without spread is not cut, trees end at the logarithm of their rows, and the threshold is a half, or, given a
/// contamination, the quantile of the scores above which so many lie.
///
/// # Errors
/// [`LearningError::TooFewRows`] below two rows, and [`LearningError::Cancelled`].
pub fn fit(
    data: &Matrix,
    options: &IsolationForestOptions,
    seed: u64,
    watch: Watch<'_>,
) -> Result<Isolated, LearningError> {
    let rows = data.rows();
    if rows < 2 {
        return Err(LearningError::TooFewRows { rows, least: 2, what: "Isolation Forest" });
    }
    let samples = (options.samples as usize).clamp(2, rows);
    let count = options.trees.max(1) as usize;
    let (growing, grown) = (watch.part(0.0, 0.3), AtomicUsize::new(0));
    let trees = by_parts(count, 1, |tree, _| {
        let tree = Tree::grow(data, samples, stream(seed, tree as u64), growing)?;
        growing.step(grown.fetch_add(1, Ordering::Relaxed) + 1, count)?;
        Ok(tree)
    })?;
    // Summed up as paths are, so that rows that are all alike have a score of a half, and not a little more.
    let ordinary = trees.iter().map(|_| expected_path(samples)).sum();
    let forest = Forest { columns: data.columns(), trees, ordinary };
    let scores = forest.scores(data, watch.part(0.3, 0.98))?;
    let threshold = match options.contamination {
        Some(share) => quantile(&scores, 1.0 - share),
        None => 0.5,
    };
    watch.step(1, 1)?;
    Ok(Isolated { scores, threshold, forest })
}

/// An upper estimate of the bytes that [`fit`] takes beyond its input, the forest among them.
pub fn memory(rows: usize, columns: usize, options: &IsolationForestOptions) -> u64 {
    let samples = (options.samples as usize).min(rows);
    let tree = 2 * samples * (size_of::<Node>() + 4 + 8) + 128;
    // What each thread grows a tree with, and twice the scores, for their quantile.
    let work = 64 * (samples * 16 + columns * 4);
    (options.trees as usize * tree + work + rows * 8 * 2 + (1 << 18)) as u64
}

/// The mean number of cuts until a row is alone among so many, if all are alike: of a failed search in a binary tree.
fn expected_path(rows: usize) -> f64 {
    match rows {
        0 | 1 => 0.0,
        2 => 1.0,
        _ => 2.0 * ((rows as f64 - 1.0).ln() + EULER) - 2.0 * (rows as f64 - 1.0) / rows as f64,
    }
}

/// The value below which a share of the values lies, between two of them if need be, as numpy's `percentile`.
fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let place = share.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

impl Tree {
    fn grow(data: &Matrix, samples: usize, mut random: Stream, watch: Watch<'_>) -> Result<Self, LearningError> {
        let mut rows: Vec<usize> = index::sample(&mut random, data.rows(), samples).into_vec();
        let limit = (samples as f64).log2().ceil() as usize;
        let mut columns: Vec<u32> = (0..data.columns() as u32).collect();
        let mut tree = Self { nodes: Vec::new(), sizes: Vec::new(), paths: Vec::new(), height: 0 };
        tree.push(samples, 0);
        let mut open = vec![(0, 0, samples, 0)];
        while let Some((node, from, to, depth)) = open.pop() {
            watch.check()?;
            if depth == limit || to - from < 2 {
                continue;
            }
            let Some((column, threshold)) = cut(data, &rows[from..to], &mut columns, &mut random, watch)? else {
                continue;
            };
            let middle = from + divide(data, &mut rows[from..to], column, threshold);
            let left = tree.nodes.len();
            tree.nodes[node] = Node { threshold, column: column as u32, left: left as u32 };
            tree.push(middle - from, depth + 1);
            tree.push(to - middle, depth + 1);
            open.push((left + 1, middle, to, depth + 1));
            open.push((left, from, middle, depth + 1));
        }
        tree.nodes.shrink_to_fit();
        tree.sizes.shrink_to_fit();
        tree.paths.shrink_to_fit();
        Ok(tree)
    }

    /// Adds a leaf.
    fn push(&mut self, rows: usize, depth: usize) {
        self.nodes.push(Node { threshold: f64::INFINITY, column: 0, left: self.nodes.len() as u32 });
        self.sizes.push(rows as u32);
        self.paths.push(depth as f64 + expected_path(rows));
        self.height = self.height.max(depth);
    }

    /// Adds the lengths of the paths of some rows.
    #[inline(always)]
    fn add_paths(&self, rows: &[&[f64]; ABREAST], sums: &mut [f64; ABREAST]) {
        let mut at = [0_u32; ABREAST];
        for _ in 0..self.height {
            for (at, row) in at.iter_mut().zip(rows) {
                let node = self.nodes[*at as usize];
                *at = node.left + u32::from(row[node.column as usize] > node.threshold);
            }
        }
        for (sum, at) in sums.iter_mut().zip(at) {
            *sum += self.paths[at as usize];
        }
    }
}

/// A random column in which rows differ, and a random value between its extremes; nothing, if rows are all the same.
fn cut(
    data: &Matrix,
    rows: &[usize],
    columns: &mut [u32],
    random: &mut Stream,
    watch: Watch<'_>,
) -> Result<Option<(usize, f64)>, LearningError> {
    for tried in 0..columns.len() {
        if tried % 64 == 63 {
            watch.check()?;
        }
        let drawn = random.random_range(tried..columns.len());
        columns.swap(tried, drawn);
        let column = columns[tried] as usize;
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for row in rows {
            let value = data.row(*row)[column];
            low = low.min(value);
            high = high.max(value);
        }
        if low < high {
            let threshold = low + (high - low) * random.random::<f64>();
            // Rounded up to the largest value, it would cut nothing.
            return Ok(Some((column, if threshold < high { threshold } else { low })));
        }
    }
    Ok(None)
}

/// Brings the rows with larger values to the end. Gives the number of the others.
fn divide(data: &Matrix, rows: &mut [usize], column: usize, threshold: f64) -> usize {
    let mut kept = 0;
    for at in 0..rows.len() {
        if data.row(rows[at])[column] <= threshold {
            rows.swap(at, kept);
            kept += 1;
        }
    }
    kept
}

impl Forest {
    /// The score of each row of a matrix with the same columns.
    ///
    /// # Errors
    /// [`LearningError::Cancelled`]
    pub fn scores(&self, data: &Matrix, watch: Watch<'_>) -> Result<Vec<f64>, LearningError> {
        let (parts, done) = (data.rows().div_ceil(PART), AtomicUsize::new(0));
        let mut scores = vec![0.0; data.rows()];
        scores.par_chunks_mut(PART).enumerate().try_for_each(|(part, scores)| {
            // A tree stays in the cache while a part of the rows walks it.
            for tree in &self.trees {
                watch.check()?;
                Arch::new().dispatch(|| {
                    for (block, scores) in scores.chunks_mut(ABREAST).enumerate() {
                        let from = part * PART + block * ABREAST;
                        let rows = std::array::from_fn(|at| data.row((from + at).min(data.rows() - 1)));
                        let mut sums = [0.0; ABREAST];
                        tree.add_paths(&rows, &mut sums);
                        scores.iter_mut().zip(sums).for_each(|(score, path)| *score += path);
                    }
                });
            }
            scores.iter_mut().for_each(|score| *score = (-*score / self.ordinary).exp2());
            watch.step(done.fetch_add(1, Ordering::Relaxed) + 1, parts)
        })?;
        Ok(scores)
    }

    /// Which columns set a row apart, with their shares of 1, the largest first: after local DIFFI (Carletti, Terzi and Susto
    /// 2023, "Interpretable anomaly detection with DIFFI"). A cut counts the more, the more of the other rows it leaves
    /// behind and the shorter the way is that it is on; cuts of a column count as their mean, for columns are drawn by chance.
    pub fn reasons(&self, row: &[f64]) -> Vec<(usize, f64)> {
        let mut weights = vec![(0.0, 0_u32); self.columns];
        for tree in &self.trees {
            let (mut way, mut at) = (Vec::new(), 0);
            loop {
                let node = tree.nodes[at];
                let next = node.left as usize + usize::from(row[node.column as usize] > node.threshold);
                if next == at {
                    break;
                }
                way.push((node.column as usize, f64::from(tree.sizes[at]) / f64::from(tree.sizes[next].max(1))));
                at = next;
            }
            for (column, left_behind) in &way {
                weights[*column].0 += left_behind.ln() / way.len() as f64;
                weights[*column].1 += 1;
            }
        }
        let means = weights.iter().map(|(sum, cuts)| sum / f64::from((*cuts).max(1)));
        let total: f64 = means.clone().sum();
        let mut reasons: Vec<_> =
            means.map(|mean| mean / total).enumerate().filter(|(_, share)| *share > 0.0).collect();
        reasons.sort_by(|a, b| b.1.total_cmp(&a.1));
        reasons
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows in a cube, and one that is far away in one column.
    fn table(rows: usize, columns: usize, far: usize) -> Matrix {
        let mut random = stream(3, 0);
        let mut data = Matrix::zeros(rows, columns);
        data.values_mut().iter_mut().for_each(|value| *value = random.random());
        data.row_mut(0)[far] = 8.0;
        data
    }

    fn ordinary(data: &Matrix, options: &IsolationForestOptions) -> Isolated {
        fit(data, options, 42, Watch::nobody()).unwrap()
    }

    #[test]
    fn finds_the_row_that_is_far_away_and_why() {
        let found = ordinary(&table(600, 6, 4), &IsolationForestOptions::default());
        assert!(found.scores[0] > 0.55 && found.threshold == 0.5, "{}", found.scores[0]);
        assert!(found.scores[1..].iter().all(|score| *score < found.scores[0]));
        let mut row = vec![0.5; 6];
        row[4] = 8.0;
        let reasons = found.forest.reasons(&row);
        assert_eq!(reasons[0].0, 4);
        assert!(reasons[0].1 > 2.0 * reasons[1].1, "{reasons:?}");
        assert!((reasons.iter().map(|reason| reason.1).sum::<f64>() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn paths_are_as_expected() {
        assert_eq!((expected_path(1), expected_path(2)), (0.0, 1.0));
        assert!((expected_path(256) - 10.244_770_920_116_851).abs() < 1e-9);
    }

    #[test]
    fn contamination_is_a_quantile() {
        let options = IsolationForestOptions { contamination: Some(0.1), ..IsolationForestOptions::default() };
        let found = ordinary(&table(500, 3, 0), &options);
        assert_eq!(found.scores.iter().filter(|score| **score > found.threshold).count(), 50);
        assert_eq!(quantile(&[3.0, 1.0, 2.0, 4.0], 0.5), 2.5);
    }

    #[test]
    fn degenerate_tables_are_an_error_or_ordinary() {
        let options = IsolationForestOptions::default();
        for rows in [0, 1] {
            let result = fit(&Matrix::zeros(rows, 2), &options, 1, Watch::nobody());
            assert!(matches!(result, Err(LearningError::TooFewRows { least: 2, .. })));
        }
        for rows in [2, 500] {
            let same = ordinary(&Matrix::zeros(rows, 3), &options);
            assert!(same.scores.iter().all(|score| *score == 0.5), "{:?}", same.scores);
            assert!(same.forest.reasons(&[0.0; 3]).is_empty());
        }
        let mut huge = table(300, 2, 1);
        huge.values_mut().iter_mut().for_each(|value| *value *= 1e149);
        assert!(ordinary(&huge, &options).scores.iter().all(|score| (0.0..1.0).contains(score)));
        let mut tiny = Matrix::zeros(3, 1);
        tiny.row_mut(1)[0] = f64::from_bits(1);
        assert!(ordinary(&tiny, &options).scores.iter().all(|score| score.is_finite()));
        let most = IsolationForestOptions { trees: 1, samples: 65_536, contamination: Some(0.5) };
        assert_eq!(ordinary(&table(10, 2, 0), &most).scores.len(), 10);
    }

    #[test]
    fn is_the_same_on_any_number_of_threads() {
        let data = table(3_000, 5, 2);
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| ordinary(&data, &IsolationForestOptions::default()))
        };
        let one = on(1);
        assert!(one == on(2) && one == on(3));
        assert!(one.scores != fit(&data, &IsolationForestOptions::default(), 43, Watch::nobody()).unwrap().scores);
    }

    #[test]
    fn stops_wherever_it_is_told_to() {
        let data = table(3_000, 5, 2);
        let options = IsolationForestOptions { trees: 20, ..IsolationForestOptions::default() };
        let asked = AtomicUsize::new(0);
        let count = || {
            asked.fetch_add(1, Ordering::Relaxed);
            false
        };
        fit(&data, &options, 1, Watch::new(&count, &|_| {})).unwrap();
        let all = asked.load(Ordering::Relaxed);
        for at in (0..all).step_by(all / 20) {
            let left = AtomicUsize::new(at);
            let stop = || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err();
            let result = fit(&data, &options, 1, Watch::new(&stop, &|_| {}));
            assert_eq!(result.err(), Some(LearningError::Cancelled), "{at} of {all}");
        }
    }
}
