//! What stays small of a column of any length.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasherDefault, Hasher},
};

use crate::random::{Random, mix};

/// Different values that are counted exactly, if there is room for them.
const EXACT: usize = 10_000;

/// Places of a hash table that has room for them, and for as many more as make it worth while to look for the smallest.
const PLACES: usize = 16_384;

/// Places of the smallest one.
const FEWEST_PLACES: usize = 2_048;

/// Bytes of a place: a hash, and what the table notes of it.
const PLACE_BYTES: usize = 9;

/// Different texts of a category.
pub(crate) const MOST_LEVELS: usize = 1_000;

/// A text longer than this is no category.
const LONGEST_LEVEL: usize = 1_000;

/// An odd number without a pattern: the golden ratio.
const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;

/// Keys that are hashes.
#[derive(Default)]
pub(crate) struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        // The smallest hashes are alike in their first bits, by which the table tells entries apart.
        self.0.wrapping_mul(FACTOR)
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = hash(bytes);
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

type Build = BuildHasherDefault<Hashed>;

/// 64 bits of a text, eight bytes at a time.
pub(crate) fn hash(text: &[u8]) -> u64 {
    let (words, rest) = text.as_chunks::<8>();
    let mut hash = FACTOR ^ text.len() as u64;
    for &word in words {
        hash = (hash.rotate_left(23) ^ u64::from_le_bytes(word)).wrapping_mul(FACTOR);
    }
    let last = rest.iter().fold(0, |last, &byte| last << 8 | u64::from(byte));
    mix((hash.rotate_left(23) ^ last).wrapping_mul(FACTOR))
}

/// 64 bits of a number; 0 and -0 are the same.
pub(crate) fn hash_number(number: f64) -> u64 {
    mix((number + 0.0).to_bits() ^ 0x5851_F42D_4C95_7F2D)
}

/// Counts different values: exactly up to 10,000, then by the smallest 10,000 hashes (Bar-Yossef et al. 2002), within one
/// percent or two. With less room it keeps fewer of them.
pub(crate) struct Distinct {
    hashes: HashSet<u64, Build>,
    /// Places that the table may have.
    places: usize,
    /// Larger hashes are not kept.
    below: Option<u64>,
    /// Whether a value was seen again, of those whose hash is kept.
    repeated: bool,
}

impl Distinct {
    /// As exact as so many bytes allow, but for a least number.
    pub(crate) fn within(bytes: usize) -> Self {
        let mut places = PLACES;
        while places > FEWEST_PLACES && places * PLACE_BYTES > bytes {
            places /= 2;
        }
        Self { hashes: HashSet::default(), places, below: None, repeated: false }
    }

    /// Bytes that it takes at most.
    pub(crate) const fn bytes(&self) -> usize {
        self.places * PLACE_BYTES
    }

    /// Different values that are counted exactly.
    const fn exact(&self) -> usize {
        EXACT * self.places / PLACES
    }

    pub(crate) fn add(&mut self, hash: u64) {
        if self.below.is_some_and(|below| hash > below) {
            return;
        }
        if !self.hashes.insert(hash) {
            self.repeated = true;
        } else if self.hashes.len() == self.places / 8 * 7 {
            // A fuller table would grow.
            self.halve();
        }
    }

    fn halve(&mut self) {
        let mut hashes: Vec<u64> = self.hashes.drain().collect();
        let (_, &mut largest, _) = hashes.select_nth_unstable(self.exact() - 1);
        hashes.truncate(self.exact());
        self.hashes.extend(hashes);
        self.below = Some(largest);
    }

    /// It was seen before; nothing new comes of it.
    pub(crate) const fn repeat(&mut self) {
        self.repeated = true;
    }

    /// Whether no value came twice, as far as is known.
    pub(crate) const fn all_different(&self) -> bool {
        !self.repeated
    }

    /// How many there are, and whether that is an estimate. Never more than so many.
    pub(crate) fn number(&self, most: u64) -> (u64, bool) {
        let exact = self.exact();
        if self.below.is_none() && self.hashes.len() <= exact {
            return (self.hashes.len() as u64, false);
        }
        let mut hashes: Vec<u64> = self.hashes.iter().copied().collect();
        let (_, &mut largest, _) = hashes.select_nth_unstable(exact - 1);
        let estimate = (exact - 1) as f64 / (largest as f64 / 2_f64.powi(64));
        let least = exact as u64 + 1;
        ((estimate.round() as u64).clamp(least, most.max(least)), true)
    }
}

/// Counts each text, as long as there are few.
pub(crate) struct Levels {
    counts: HashMap<u64, Level, Build>,
    bytes: usize,
    most_bytes: usize,
    /// There were more.
    pub(crate) overflowed: bool,
}

/// A text, and how often it came.
pub(crate) struct Level {
    pub(crate) text: Box<[u8]>,
    pub(crate) count: u64,
}

impl Levels {
    pub(crate) fn new(most_bytes: usize) -> Self {
        Self { counts: HashMap::default(), bytes: 0, most_bytes, overflowed: false }
    }

    /// Whether it was there before.
    pub(crate) fn add(&mut self, hash: u64, text: &[u8]) -> bool {
        if let Some(level) = self.counts.get_mut(&hash) {
            level.count += 1;
            return true;
        }
        if !self.overflowed {
            self.bytes += text.len() + size_of::<(u64, Level)>();
            self.overflowed =
                self.counts.len() == MOST_LEVELS || text.len() > LONGEST_LEVEL || self.bytes > self.most_bytes;
            if !self.overflowed {
                self.counts.insert(hash, Level { text: text.into(), count: 1 });
            }
        }
        false
    }

    /// Takes no more memory.
    pub(crate) fn forget(&mut self) {
        self.counts = HashMap::default();
    }

    /// All texts in their order.
    pub(crate) fn sorted(&self) -> Vec<&Level> {
        let mut levels: Vec<&Level> = self.counts.values().collect();
        levels.sort_unstable_by(|one, other| one.text.cmp(&other.text));
        levels
    }

    pub(crate) fn len(&self) -> usize {
        self.counts.len()
    }
}

/// As many values as fit, drawn from all (Vitter 1985, algorithm R).
pub(crate) struct Reservoir {
    values: Vec<f64>,
    size: usize,
    seen: u64,
    random: Random,
}

impl Reservoir {
    pub(crate) const fn new(size: usize, seed: u64) -> Self {
        Self { values: Vec::new(), size, seen: 0, random: Random::new(seed) }
    }

    pub(crate) fn add(&mut self, value: f64) {
        self.seen += 1;
        if self.values.len() < self.size {
            if self.values.len() == self.values.capacity() {
                // Twice as many as now, but never more than fit.
                let more = self.values.len().max(64).min(self.size - self.values.len());
                self.values.reserve_exact(more);
            }
            self.values.push(value);
        } else if let Some(place) = self.values.get_mut(self.random.below(self.seen) as usize) {
            *place = value;
        }
    }

    /// In their order.
    pub(crate) fn sorted(mut self) -> Vec<f64> {
        self.values.sort_unstable_by(f64::total_cmp);
        self.values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_exactly_then_estimates() {
        for (different, estimated) in
            [(0_u64, false), (1, false), (10_000, false), (10_001, true), (100_000, true), (1_000_000, true)]
        {
            let mut distinct = Distinct::within(usize::MAX);
            for value in 0..different {
                distinct.add(hash(value.to_string().as_bytes()));
            }
            let (number, is_estimated) = distinct.number(different);
            assert_eq!(is_estimated, estimated, "{different}");
            assert!(
                (number as f64 - different as f64).abs() <= if estimated { different as f64 * 0.03 } else { 0.0 },
                "{number} of {different}"
            );
            assert!(distinct.all_different());
            if different > 0 {
                for value in 0..different.min(1_000) {
                    distinct.add(hash(value.to_string().as_bytes()));
                }
                assert!(!distinct.all_different());
            }
        }
    }

    #[test]
    fn counts_fewer_exactly_in_less_room() {
        for (bytes, exact) in [(147_456, 10_000), (147_455, 5_000), (40_000, 2_500), (0, 1_250)] {
            for (different, estimated) in [(exact, false), (exact + 1, true), (200_000, true)] {
                let mut distinct = Distinct::within(bytes);
                (0..different).for_each(|value: u64| distinct.add(hash(value.to_string().as_bytes())));
                let (number, is_estimated) = distinct.number(different);
                assert_eq!(is_estimated, estimated, "{bytes} {different}");
                let most = if estimated { different as f64 * 0.1 } else { 0.0 };
                assert!((number as f64 - different as f64).abs() <= most, "{bytes}: {number} of {different}");
                assert!(distinct.hashes.capacity() * PLACE_BYTES <= distinct.bytes());
            }
        }
    }

    #[test]
    fn hashes_of_like_texts_are_unlike() {
        let mut seen = HashSet::new();
        for number in 0..200_000_u32 {
            assert!(seen.insert(hash(number.to_string().as_bytes())));
            assert!(seen.insert(hash(format!("{number:016}").as_bytes())));
        }
        assert_ne!(hash(b""), hash(b"\0"));
        assert_ne!(hash(b"a"), hash(b"\0a"));
        assert_eq!(hash_number(0.0), hash_number(-0.0));
    }

    #[test]
    fn forgets_no_level_until_there_are_too_many() {
        let mut levels = Levels::new(1 << 20);
        for round in 0..3 {
            for number in 0..MOST_LEVELS {
                let text = number.to_string();
                assert_eq!(levels.add(hash(text.as_bytes()), text.as_bytes()), round > 0);
            }
        }
        assert!(!levels.overflowed && levels.sorted().iter().all(|level| level.count == 3));
        levels.add(hash(b"another"), b"another");
        assert!(levels.overflowed && levels.len() == MOST_LEVELS);
    }

    #[test]
    fn draws_evenly() {
        let mut sum = 0.0;
        for seed in 0..50 {
            let mut reservoir = Reservoir::new(100, seed);
            (0..10_000).for_each(|value| reservoir.add(f64::from(value)));
            let values = reservoir.sorted();
            assert_eq!((values.len(), values.capacity()), (100, 100));
            sum += values.iter().sum::<f64>() / 100.0;
        }
        assert!((sum / 50.0 - 5_000.0).abs() < 150.0, "{}", sum / 50.0);
    }
}
