//! What sets clusters apart.

use std::{borrow::Cow, cmp::Reverse, collections::BinaryHeap};

use crate::{LearningError, Matrix, Watch, metrics::Means};

/// Clusters that are described: the largest; of equals, those with the lowest labels.
pub const DESCRIBED: usize = 1_000;

/// Rows that stand for a cluster.
const EXEMPLARS: usize = 3;

/// Rows between two questions whether to go on.
const ROWS: usize = 256;

/// What sets a cluster apart.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// Its label.
    pub label: i32,
    /// Its rows.
    pub size: usize,
    /// The mean of each column, in its own units.
    pub centroid: Vec<f64>,
    /// Features with the difference of their mean from that of all other rows, noise among them, in pooled standard
    /// deviations (Cohen's d); the largest first, by magnitude. None for a feature that is the same everywhere, and if there
    /// are no other rows.
    pub effects: Vec<(usize, f64)>,
    /// The rows nearest to its middle, at most three, the nearest first.
    pub exemplars: Vec<usize>,
}

/// Describes the clusters of some rows, by label: their means are those of `original`, in its units; what sets them apart is
/// sought in `features`, categories among them; and their middles are those of the rows as they were clustered, in
/// `clustered`. Rows with a negative label are in no cluster. At most `effects` features are named for each. Of more than
/// [`DESCRIBED`] clusters the largest are described.
///
/// # Errors
/// [`LearningError::Cancelled`]
///
/// # Panics
/// If there are not as many rows and labels: a mistake of the programmer.
pub fn profiles(
    original: &Matrix,
    features: &Matrix,
    clustered: &Matrix,
    labels: &[i32],
    effects: usize,
    watch: Watch<'_>,
) -> Result<Vec<Profile>, LearningError> {
    let rows = [original, features, clustered].map(Matrix::rows);
    assert!(rows.iter().all(|rows| *rows == labels.len()), "labels of as many rows");
    watch.check()?;
    let labels = of_largest(labels, DESCRIBED);
    // One matrix after the other, so that no more than one is described at a time.
    let exemplars = exemplars(clustered, &labels, watch.part(0.0, 0.3))?;
    let centroids = centroids(original, &labels, watch.part(0.3, 0.5))?;
    let means = Means::of(features, &labels, watch.part(0.5, 0.7))?;
    let all = Spread::of(features, &labels, &means, watch.part(0.7, 1.0))?;
    let describe = |(cluster, (exemplars, centroid)): (usize, (Vec<usize>, Vec<f64>))| Profile {
        label: means.labels[cluster],
        size: means.sizes[cluster],
        centroid,
        effects: all.effects(cluster, &means, effects),
        exemplars,
    };
    Ok(exemplars.into_iter().zip(centroids).enumerate().map(describe).collect())
}

/// An upper estimate of the bytes that [`profiles`] takes beyond its input: of so many rows, of columns in their own units, of
/// features, and of columns as they were clustered.
pub fn memory(rows: usize, [original, features, clustered]: [usize; 3], clusters: usize) -> u64 {
    let described = clusters.min(DESCRIBED);
    // Labels of the largest, in order, and of all rows as one cluster.
    let labels = 16 * (rows + clusters);
    let numbers = described * (2 * original + 3 * features + clustered);
    (labels + 8 * numbers + 512 * described + (1 << 16)) as u64
}

/// Labels, without those of all but so many of the largest clusters. What the rows of the others are compared with does not
/// change: those are among all other rows, as noise is.
fn of_largest(labels: &[i32], most: usize) -> Cow<'_, [i32]> {
    let mut known: Vec<i32> = labels.iter().copied().filter(|label| *label >= 0).collect();
    known.sort_unstable();
    let mut largest: Vec<(Reverse<usize>, i32)> =
        known.chunk_by(|a, b| a == b).map(|rows| (Reverse(rows.len()), rows[0])).collect();
    if largest.len() <= most {
        return Cow::Borrowed(labels);
    }
    largest.sort_unstable();
    let mut kept: Vec<i32> = largest.iter().take(most).map(|(_, label)| *label).collect();
    kept.sort_unstable();
    let of_largest = |label: &i32| if kept.binary_search(label).is_ok() { *label } else { -1 };
    Cow::Owned(labels.iter().map(of_largest).collect())
}

/// The mean of each cluster, in the columns' own units.
fn centroids(original: &Matrix, labels: &[i32], watch: Watch<'_>) -> Result<Vec<Vec<f64>>, LearningError> {
    let means = Means::of(original, labels, watch)?;
    let centroid = |cluster| means.centroids.row(cluster).iter().map(|mean| mean / means.scale).collect();
    Ok((0..means.sizes.len()).map(centroid).collect())
}

/// How columns are spread.
struct Spread {
    rows: usize,
    /// The mean of each column.
    means: Vec<f64>,
    /// The sum of the squared differences from them.
    squares: Vec<f64>,
    /// The sums of the squared differences from the mean of each cluster.
    within: Matrix,
}

impl Spread {
    fn of(data: &Matrix, labels: &[i32], clusters: &Means, watch: Watch<'_>) -> Result<Self, LearningError> {
        let one = vec![0; labels.len()];
        let all = Means::of(data, &one, watch.part(0.0, 0.3))?;
        let mut spread = Self {
            rows: labels.len(),
            means: if labels.is_empty() { vec![0.0; data.columns()] } else { all.centroids.row(0).to_vec() },
            squares: vec![0.0; data.columns()],
            within: Matrix::zeros(clusters.sizes.len(), data.columns()),
        };
        for (row, label) in labels.iter().enumerate() {
            if row % ROWS == 0 {
                watch.part(0.3, 1.0).step(row, labels.len())?;
            }
            let cluster = clusters.cluster(*label);
            for (column, value) in data.row(row).iter().enumerate() {
                let value = value * clusters.scale;
                spread.squares[column] += (value - spread.means[column]).powi(2);
                if let Some(cluster) = cluster {
                    let apart = value - clusters.centroids.row(cluster)[column];
                    spread.within.row_mut(cluster)[column] += apart * apart;
                }
            }
        }
        Ok(spread)
    }

    fn effects(&self, cluster: usize, means: &Means, most: usize) -> Vec<(usize, f64)> {
        let (size, others) = (means.sizes[cluster] as f64, (self.rows - means.sizes[cluster]) as f64);
        if others == 0.0 {
            return Vec::new();
        }
        let mut effects: Vec<(usize, f64)> = (0..self.means.len())
            .filter_map(|column| {
                let (mean, all) = (means.centroids.row(cluster)[column], self.means[column]);
                let rest = all + (all - mean) * size / others;
                // All squares are those within both groups and those between them.
                let between = (mean - rest).powi(2) * size * others / (size + others);
                let within = (self.squares[column] - between).max(self.within.row(cluster)[column]);
                let deviation = (within / (size + others - 2.0).max(1.0)).sqrt();
                // Groups without any spread of their own are as far apart as the spread of the column can say.
                let deviation =
                    if deviation > 0.0 { deviation } else { (self.squares[column] / (size + others)).sqrt() };
                (self.squares[column] > 0.0 && mean != rest).then(|| (column, (mean - rest) / deviation))
            })
            .filter(|(_, effect)| effect.is_finite())
            .collect();
        effects.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
        effects.truncate(most);
        // There was room for all columns.
        effects.shrink_to_fit();
        effects
    }
}

/// The rows of each cluster that are nearest to its middle; of equals, the first.
fn exemplars(data: &Matrix, labels: &[i32], watch: Watch<'_>) -> Result<Vec<Vec<usize>>, LearningError> {
    let means = Means::of(data, labels, watch.part(0.0, 0.4))?;
    // Squares of positive numbers are in the order of their bits.
    let mut nearest = vec![BinaryHeap::<(u64, usize)>::new(); means.sizes.len()];
    means.each_distance(data, labels, watch.part(0.4, 1.0), |row, cluster, squared| {
        let nearest = &mut nearest[cluster];
        nearest.push((squared.to_bits(), row));
        if nearest.len() > EXEMPLARS {
            nearest.pop();
        }
    })?;
    Ok(nearest.into_iter().map(|heap| heap.into_sorted_vec().into_iter().map(|(_, row)| row).collect()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(original: &Matrix, labels: &[i32]) -> Vec<Profile> {
        profiles(original, original, original, labels, 5, Watch::nobody()).unwrap()
    }

    #[test]
    fn says_what_sets_clusters_apart_in_their_own_units() {
        let original = Matrix::new(2, vec![1.0, 7.0, 2.0, 7.0, 3.0, 7.0, 101.0, 7.0, 103.0, 7.0]).unwrap();
        let found = described(&original, &[0, 0, 0, 4, 4]);
        assert_eq!((found[0].label, found[0].size, found[1].label, found[1].size), (0, 3, 4, 2));
        assert_eq!((found[0].centroid.clone(), found[1].centroid.clone()), (vec![2.0, 7.0], vec![102.0, 7.0]));
        // Within: 2 + 2 over 3 degrees of freedom; the other column says nothing.
        let effect = 100.0 / (4.0_f64 / 3.0).sqrt();
        assert_eq!(found[0].effects.len(), 1);
        assert!((found[0].effects[0].1 + effect).abs() < 1e-9 && (found[1].effects[0].1 - effect).abs() < 1e-9);
        assert_eq!(found[0].exemplars, [1, 0, 2]);
        assert_eq!(found[1].exemplars, [3, 4]);
    }

    #[test]
    fn what_sets_clusters_apart_may_be_no_column_with_units() {
        let original = Matrix::new(1, vec![1.0, 2.0, 3.0, 2.0]).unwrap();
        // The same column on another scale, and a category.
        let features = Matrix::new(2, vec![-1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0]).unwrap();
        let found = profiles(&original, &features, &features, &[0, 0, 1, 1], 5, Watch::nobody()).unwrap();
        assert_eq!((found[0].centroid.clone(), found[1].centroid.clone()), (vec![1.5], vec![2.5]));
        let named = |profile: &Profile| profile.effects.iter().map(|(feature, _)| *feature).collect::<Vec<_>>();
        assert_eq!((named(&found[0]), named(&found[1])), (vec![1, 0], vec![1, 0]));
        assert!(found[0].effects[0].1 < 0.0 && found[1].effects[0].1 > 0.0);
    }

    #[test]
    fn noise_is_among_the_others_and_in_no_cluster() {
        let original = Matrix::new(1, vec![0.0, 2.0, 9.0, 11.0]).unwrap();
        let found = described(&original, &[0, 0, -1, -1]);
        assert_eq!(found.len(), 1);
        // Within: 2 + 2 over 2 degrees of freedom.
        assert!((found[0].effects[0].1 + 9.0 / 2.0_f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn the_largest_clusters_are_those_without_the_others() {
        let labels = [3, 3, 9, -1, 9, 0, 3, 7, 7, i32::MAX];
        assert_eq!(of_largest(&labels, 5), Cow::Borrowed(&labels[..]));
        // Of equals, the lower labels.
        assert_eq!(of_largest(&labels, 2)[..], [3, 3, -1, -1, -1, -1, 3, 7, 7, -1]);
        let data = Matrix::new(1, (0..10).map(|row| f64::from(row * row % 7)).collect()).unwrap();
        let largest = described(&data, &of_largest(&labels, 2));
        let all = described(&data, &labels);
        assert_eq!(largest, [all[1].clone(), all[2].clone()]);
        assert!(largest[0].effects.len() == 1 && all.len() == 5);
    }

    #[test]
    fn no_more_than_so_many_clusters_are_described() {
        let rows = 2 * DESCRIBED + 3;
        let data = Matrix::new(1, (0..rows).map(|row| row as f64).collect()).unwrap();
        // The last has one row.
        let labels: Vec<i32> = (0..rows).map(|row| (row / 2) as i32).collect();
        let found = described(&data, &labels);
        assert_eq!(found.iter().map(|profile| profile.label).collect::<Vec<_>>(), (0..1_000).collect::<Vec<_>>());
        let bytes = |clusters| memory(1_000_000, [20, 20, 20], clusters);
        assert!(bytes(1_000_000) < bytes(1_000) + 16 * 1_000_000);
    }

    #[test]
    fn degenerate_tables_have_profiles() {
        assert_eq!(described(&Matrix::zeros(0, 2), &[]), []);
        assert_eq!(described(&Matrix::zeros(2, 2), &[-1, -1]), []);
        let one = described(&Matrix::zeros(2, 2), &[0, 0]);
        assert_eq!((one[0].effects.len(), one[0].exemplars.len()), (0, 2));
        let apart = described(&Matrix::new(1, vec![1.0, 1.0, 3.0]).unwrap(), &[0, 0, 1]);
        assert!(apart[1].effects[0].1 > 0.0 && apart[1].effects[0].1.is_finite());
        let huge = described(&Matrix::new(1, vec![1e149, 3e149, 0.0, -1e149]).unwrap(), &[0, 0, 1, 1]);
        assert!((huge[0].centroid[0] / 2e149 - 1.0).abs() < 1e-12 && huge[0].effects[0].1.is_finite());
    }

    #[test]
    fn stops_when_told_to() {
        let stop = Watch::new(&|| true, &|_| {});
        let data = Matrix::zeros(2, 2);
        assert_eq!(profiles(&data, &data, &data, &[0, 1], 5, stop), Err(LearningError::Cancelled));
    }
}
