//! Categories as numbers.

use fourmi_kinds::{Encode, Encoding};

use crate::sketch::hash;

/// The levels that come in some row, in their order, with how often.
pub(crate) fn present(levels: usize, of_rows: &[u32]) -> Vec<(usize, u64)> {
    let mut counts = vec![0_u64; levels];
    for &level in of_rows {
        // A missing one is no level.
        if let Some(count) = counts.get_mut(level as usize) {
            *count += 1;
        }
    }
    counts.into_iter().enumerate().filter(|&(_, count)| count > 0).collect()
}

/// The level that comes most often; of several, the first. 0 if none comes.
pub(crate) fn most_frequent(levels: usize, of_rows: &[u32]) -> u32 {
    let most = present(levels, of_rows).into_iter().rev().max_by_key(|&(_, count)| count);
    most.map_or(0, |(level, _)| level as u32)
}

/// The place of each level among those that come.
pub(crate) fn places(levels: usize, present: &[(usize, u64)]) -> Vec<usize> {
    let mut places = vec![0; levels];
    present.iter().enumerate().for_each(|(place, &(level, _))| places[level] = place);
    places
}

/// Columns that are made of a column with these levels.
pub(crate) fn features(present: &[(usize, u64)], options: &Encode) -> usize {
    match options.method {
        Encoding::OneHot => present.len(),
        Encoding::Ordinal | Encoding::Frequency => 1,
        Encoding::Hashing => options.buckets as usize,
        Encoding::Off => 0,
    }
}

/// Whether all of these levels become the same numbers, which tell no rows apart.
pub(crate) fn is_constant(texts: &[String], present: &[(usize, u64)], options: &Encode) -> bool {
    let buckets = options.buckets as usize;
    match options.method {
        Encoding::OneHot | Encoding::Ordinal | Encoding::Off => present.len() < 2,
        Encoding::Frequency => present.windows(2).all(|pair| pair[0].1 == pair[1].1),
        Encoding::Hashing => {
            present.windows(2).all(|pair| bucket(&texts[pair[0].0], buckets) == bucket(&texts[pair[1].0], buckets))
        }
    }
}

/// Columns that may be made of one with so many levels in the whole table.
pub(crate) fn most_features(levels: usize, options: &Encode) -> usize {
    match options.method {
        Encoding::OneHot => levels.min(options.max_levels as usize),
        Encoding::Ordinal | Encoding::Frequency => 1,
        Encoding::Hashing => options.buckets as usize,
        Encoding::Off => 0,
    }
}

/// To which bucket a text adds, and whether 1 or -1: the first bits of its hash say where, the last the sign.
pub(crate) fn bucket(text: &str, buckets: usize) -> (usize, f64) {
    let hash = hash(text.as_bytes());
    let bucket = ((u128::from(hash) * buckets as u128) >> 64) as usize;
    (bucket, if hash & 1 == 0 { 1.0 } else { -1.0 })
}
