//! Chance that does not depend on who asks first.

use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;

/// A stream of random numbers: the same for the same seed on every machine.
pub type Stream = Pcg64Mcg;

/// The stream of one part of some work: parts that have streams of their own can be done in any order.
pub fn stream(seed: u64, part: u64) -> Stream {
    // SplitMix64 (Steele, Lea and Flood 2014) keeps the streams of neighbouring parts apart.
    let mut mixed = seed ^ part.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    Pcg64Mcg::seed_from_u64(mixed ^ (mixed >> 31))
}
