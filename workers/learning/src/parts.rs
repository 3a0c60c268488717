//! Work in parts.

use rayon::prelude::*;

use crate::LearningError;

/// Calls for parts of a fixed size (from, to), in parallel. What they give is in their order, whichever thread was first.
pub(crate) fn by_parts<T: Send>(
    of: usize,
    size: usize,
    call: impl Fn(usize, usize) -> Result<T, LearningError> + Sync,
) -> Result<Vec<T>, LearningError> {
    (0..of.div_ceil(size)).into_par_iter().map(|part| call(part * size, of.min((part + 1) * size))).collect()
}
