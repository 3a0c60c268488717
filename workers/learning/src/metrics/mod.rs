//! How good a clustering is.

mod adjusted_rand;
mod calinski_harabasz;
mod davies_bouldin;
mod means;

pub use adjusted_rand::adjusted_rand;
pub use calinski_harabasz::calinski_harabasz;
pub use davies_bouldin::davies_bouldin;
pub use means::inertia;
pub(crate) use means::{Means, safe_scale, squared_distance};
