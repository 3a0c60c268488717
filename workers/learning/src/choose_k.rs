//! How many clusters there are, and how sure that is.

use fourmi_kinds::{KMeansOptions, TriedClusters};

use crate::{
    LearningError, Matrix, Watch, kmeans,
    metrics::{adjusted_rand, davies_bouldin, inertia},
};

/// The most clusters that are tried.
const MOST: usize = 10;

/// Other seeds that a clustering is compared with.
const SEEDS: u64 = 5;

/// Clusterings with different numbers of clusters, and the best of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Chosen {
    /// Which of the clusterings is the best.
    pub best: usize,
    /// The clusterings, by their number of clusters.
    pub labels: Vec<Vec<i32>>,
    /// What was found out about each. Its number of clusters is the one that was asked for.
    pub tried: Vec<TriedClusters>,
}

/// The silhouette of each of several clusterings of the same rows, in one pass over their distances; nothing for one cluster.
pub type Silhouettes<'a> = dyn Fn(&[Vec<i32>], Watch<'_>) -> Result<Vec<Option<f64>>, LearningError> + 'a;

/// Tries all numbers of clusters from 2 to 10, but no more than the root of the rows, and takes the one with the best silhouette
/// (Rousseeuw 1987); of equals, the smallest. `cluster` makes so many clusters: [`of_kmeans`], or a cut of a dendrogram.
///
/// # Errors
/// [`LearningError::TooFewRows`] below four rows, [`LearningError::NoVariance`] if no number gives two clusters, and those of
/// `cluster` and `silhouettes`.
pub fn choose(
    data: &Matrix,
    mut cluster: impl FnMut(usize, Watch<'_>) -> Result<Vec<i32>, LearningError>,
    silhouettes: &Silhouettes<'_>,
    watch: Watch<'_>,
) -> Result<Chosen, LearningError> {
    let most = data.rows().isqrt().min(MOST);
    if most < 2 {
        return Err(LearningError::TooFewRows {
            rows: data.rows(),
            least: 4,
            what: "a choice of the number of clusters",
        });
    }
    let share = |from: f64, to: f64, at: usize| {
        let width = (to - from) / (most - 1) as f64;
        watch.part(from + width * (at - 2) as f64, from + width * (at - 1) as f64)
    };
    let labels: Vec<Vec<i32>> =
        (2..=most).map(|clusters| cluster(clusters, share(0.0, 0.5, clusters))).collect::<Result<_, _>>()?;
    let found = silhouettes(&labels, watch.part(0.5, 0.9))?;
    let mut tried = Vec::new();
    for (clusters, (labels, silhouette)) in (2..).zip(labels.iter().zip(&found)) {
        let watch = share(0.9, 1.0, clusters);
        tried.push(TriedClusters {
            clusters: clusters as u32,
            // Rows that are all in one cluster fit no worse into another.
            silhouette: silhouette.unwrap_or(0.0),
            davies_bouldin: davies_bouldin(data, labels, watch.part(0.0, 0.5))?.unwrap_or(0.0),
            inertia: inertia(data, labels, watch.part(0.5, 1.0))?,
        });
    }
    let silhouette = |at: usize| found.get(at).copied().flatten();
    let best = (0..labels.len()).filter(|at| silhouette(*at).is_some());
    let best = best.reduce(|best, next| if silhouette(next) > silhouette(best) { next } else { best });
    Ok(Chosen { best: best.ok_or(LearningError::NoVariance)?, labels, tried })
}

/// Makes clusters by K-Means, for [`choose`].
pub fn of_kmeans<'a>(
    data: &'a Matrix,
    options: &'a KMeansOptions,
    seed: u64,
) -> impl FnMut(usize, Watch<'_>) -> Result<Vec<i32>, LearningError> + 'a {
    move |clusters, watch| Ok(kmeans::fit(data, clusters, options, seed, watch)?.labels)
}

/// How far K-Means finds the same clusters from other seeds: the mean adjusted Rand index between some labels and those of
/// five others. 1 is the same.
///
/// # Errors
/// Those of [`kmeans::fit`].
pub fn stability(
    data: &Matrix,
    labels: &[i32],
    clusters: usize,
    options: &KMeansOptions,
    seed: u64,
    watch: Watch<'_>,
) -> Result<f64, LearningError> {
    let mut sum = 0.0;
    for other in 1..=SEEDS {
        let share = |at: u64| at as f64 / SEEDS as f64;
        let watch = watch.part(share(other - 1), share(other));
        sum += adjusted_rand(labels, &kmeans::fit(data, clusters, options, seed.wrapping_add(other), watch)?.labels);
    }
    Ok(sum / SEEDS as f64)
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::*;
    use crate::{metrics, stream};

    /// So many groups of rows on a line.
    fn groups(count: usize) -> Matrix {
        Matrix::new(1, (0..60).map(|row| (row % count * 100 + row % 7) as f64).collect()).unwrap()
    }

    /// So many round blobs of rows, on a circle.
    fn blobs(count: usize) -> Matrix {
        let mut chance = stream(4, 0);
        let row = |row: usize| {
            let (at, around) = ((row % count) as f64 / count as f64, chance.random::<f64>());
            let (centre, angle) = (at * std::f64::consts::TAU, around * std::f64::consts::TAU);
            let radius = 5.0 * chance.random::<f64>().sqrt();
            [50.0 * centre.cos() + radius * angle.cos(), 50.0 * centre.sin() + radius * angle.sin()]
        };
        Matrix::new(2, (0..60).flat_map(row).collect()).unwrap()
    }

    fn judge(data: &Matrix) -> impl Fn(&[Vec<i32>], Watch<'_>) -> Result<Vec<Option<f64>>, LearningError> + '_ {
        move |labels, watch| {
            let labels: Vec<&[i32]> = labels.iter().map(Vec::as_slice).collect();
            metrics::silhouettes(data, &labels, None, watch)
        }
    }

    #[test]
    fn takes_the_number_with_the_best_silhouette() {
        let options = KMeansOptions::default();
        for count in [2, 3, 5] {
            let data = blobs(count);
            let chosen = choose(&data, of_kmeans(&data, &options, 1), &judge(&data), Watch::nobody()).unwrap();
            assert_eq!(chosen.tried[chosen.best].clusters as usize, count);
            assert_eq!((chosen.tried.len(), chosen.labels.len()), (6, 6));
            assert!(chosen.tried.windows(2).all(|pair| pair[0].inertia > pair[1].inertia));
            // Each blob is one cluster.
            assert!(chosen.labels[chosen.best].iter().enumerate().all(|(row, label)| *label as usize == row % count));
        }
    }

    #[test]
    fn of_equals_the_smallest_number_is_taken() {
        let (data, options) = (groups(3), KMeansOptions::default());
        for (judged, best) in [
            ([Some(0.5); 6], 2),
            ([Some(0.1), Some(0.7), Some(0.2), Some(0.7), None, Some(0.7)], 3),
            ([None, None, Some(-0.5), None, Some(-0.5), Some(-0.6)], 4),
        ] {
            let judge = |_: &[Vec<i32>], _: Watch<'_>| Ok(judged.to_vec());
            let chosen = choose(&data, of_kmeans(&data, &options, 1), &judge, Watch::nobody()).unwrap();
            assert_eq!(chosen.tried[chosen.best].clusters, best);
        }
    }

    #[test]
    fn few_or_equal_rows_have_no_number() {
        let options = KMeansOptions::default();
        let chosen = |data: &Matrix| choose(data, of_kmeans(data, &options, 1), &judge(data), Watch::nobody());
        assert!(matches!(chosen(&Matrix::zeros(3, 1)), Err(LearningError::TooFewRows { least: 4, .. })));
        assert_eq!(chosen(&Matrix::zeros(30, 1)), Err(LearningError::NoVariance));
    }

    #[test]
    fn clear_clusters_are_stable() {
        let data = groups(3);
        let options = KMeansOptions::default();
        let labels = kmeans::fit(&data, 3, &options, 1, Watch::nobody()).unwrap().labels;
        assert_eq!(stability(&data, &labels, 3, &options, 1, Watch::nobody()), Ok(1.0));
        let stop = Watch::new(&|| true, &|_| {});
        assert_eq!(stability(&data, &labels, 3, &options, 1, stop), Err(LearningError::Cancelled));
    }
}
