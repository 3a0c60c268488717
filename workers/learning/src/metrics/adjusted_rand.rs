//! How far two clusterings are the same.

use std::collections::BTreeMap;

/// How far two clusterings of the same rows are the same, whatever their clusters are called (Hubert and Arabie 1985,
/// "Comparing partitions"): 1 is the same, 0 is chance. Noise counts as one more cluster, as in scikit-learn.
///
/// # Panics
/// If they are not of as many rows: a mistake of the programmer.
pub fn adjusted_rand(a: &[i32], b: &[i32]) -> f64 {
    assert_eq!(a.len(), b.len(), "clusterings of as many rows");
    let (mut of_a, mut of_b, mut of_both) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for (a, b) in a.iter().zip(b) {
        *of_a.entry(a).or_insert(0_u64) += 1;
        *of_b.entry(b).or_insert(0_u64) += 1;
        *of_both.entry((a, b)).or_insert(0_u64) += 1;
    }
    let rows = a.len() as f64;
    // Pairs of different rows, each counted twice: exact below 2^53.
    let squares = |sizes: &mut dyn Iterator<Item = &u64>| sizes.map(|size| (*size as f64).powi(2)).sum::<f64>();
    let both = squares(&mut of_both.values());
    let (in_a, in_b) = (squares(&mut of_a.values()), squares(&mut of_b.values()));
    let together = both - rows;
    let (only_a, only_b) = (in_a - both, in_b - both);
    if only_a == 0.0 && only_b == 0.0 {
        return 1.0;
    }
    let apart = rows * rows - in_a - in_b + both;
    2.0 * (together * apart - only_a * only_b)
        / ((together + only_a) * (only_a + apart) + (together + only_b) * (only_b + apart))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_one_for_the_same_partition() {
        assert_eq!(adjusted_rand(&[0, 0, 1, 2], &[7, 7, -1, 3]), 1.0);
        assert_eq!(adjusted_rand(&[], &[]), 1.0);
        assert_eq!(adjusted_rand(&[0], &[1]), 1.0);
        assert_eq!(adjusted_rand(&[3, 3], &[1, 1]), 1.0);
    }

    #[test]
    fn is_as_in_the_manual_of_scikit_learn() {
        assert!((adjusted_rand(&[0, 0, 1, 2], &[0, 0, 1, 1]) - 0.571_428_571_428_571_4).abs() < 1e-15);
        assert_eq!(adjusted_rand(&[0, 0, 0, 0], &[0, 1, 2, 3]), 0.0);
        assert_eq!(adjusted_rand(&[0, 0, 1, 1], &[0, 1, 0, 1]), -0.5);
    }
}
