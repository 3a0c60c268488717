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

use crate::stream;

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
