//! How good clusters and maps are.

mod adjusted_rand;
mod calinski_harabasz;
mod davies_bouldin;
mod means;
mod silhouette;
mod trustworthiness;

pub use adjusted_rand::adjusted_rand;
pub use calinski_harabasz::calinski_harabasz;
pub use davies_bouldin::davies_bouldin;
pub use means::inertia;
pub(crate) use means::{Means, safe_scale, squared_distance};
pub use silhouette::{silhouette, silhouettes};
pub use trustworthiness::trustworthiness;

use crate::{distance, stream};

/// Bytes that any of these measures takes for so many clusters of rows of so many columns; [`silhouettes`], for so many
/// clusterings at once.
pub fn memory(rows: usize, columns: usize, clusterings: usize, clusters: usize) -> u64 {
    let sums = rayon::current_num_threads() * clusters * distance::WIDTH * size_of::<f64>();
    let each = rows * (size_of::<u32>() + 3 * size_of::<Option<f64>>()) + sums;
    let silhouettes = clusterings * each + rows * size_of::<usize>();
    // Of each cluster its mean, label, size, spread and likeness.
    let means = rows * size_of::<i32>() + clusters * (columns + 4) * size_of::<f64>();
    silhouettes.max(means) as u64 + 1024 * 1024
}

/// So many of `rows`, drawn with the seed, in order; all of them if there are no more.
fn drawn(rows: Vec<usize>, sample: Option<(usize, u64)>) -> Vec<usize> {
    match sample {
        Some((most, seed)) if most < rows.len() => {
            let mut places = rand::seq::index::sample(&mut stream(seed, 0), rows.len(), most).into_vec();
            places.sort_unstable();
            places.into_iter().map(|place| rows[place]).collect()
        }
        _ => rows,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_grows_with_the_clusters_and_their_columns() {
        let of = |columns, clusters| memory(1_000, columns, 1, clusters);
        assert!(of(5, 1) < of(5, 1_000) && of(5, 1_000) < of(100_000, 1_000));
        // The mean of each.
        assert!(of(100_000, 1_000) > 8 * 100_000 * 1_000);
    }
}
