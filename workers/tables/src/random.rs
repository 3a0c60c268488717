//! Chance that is the same for the same seed on every machine.

/// `SplitMix64` (Steele, Lea and Flood 2014).
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// A number below `end`, which is not 0 (Lemire 2019, without his correction of a bias below 2^-32).
    pub(crate) const fn below(&mut self, end: u64) -> u64 {
        ((self.next() as u128 * end as u128) >> 64) as u64
    }
}

/// Every bit of the result depends on every bit.
pub(crate) const fn mix(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

/// Draws `needed` of `of` in their order, each set of them with the same chance (Knuth, The Art of Computer Programming 2,
/// 3.4.2, algorithm S).
pub(crate) struct Draw {
    random: Random,
    needed: u64,
    left: u64,
}

impl Draw {
    pub(crate) const fn new(needed: u64, of: u64, seed: u64) -> Self {
        Self { random: Random::new(seed), needed, left: of }
    }

    /// Whether the next is among them.
    pub(crate) const fn next(&mut self) -> bool {
        if self.left == 0 {
            return false;
        }
        let taken = self.random.below(self.left) < self.needed;
        self.left -= 1;
        self.needed -= taken as u64;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_exactly_so_many_and_each_as_often() {
        let mut times = [0_u32; 10];
        for seed in 0..2_000 {
            let mut draw = Draw::new(3, 10, seed);
            let drawn: Vec<usize> = (0..12).filter(|_| draw.next()).collect();
            assert_eq!(drawn.len(), 3);
            for at in drawn {
                times[at] += 1;
            }
        }
        assert!(times.iter().all(|times| (520..680).contains(times)), "{times:?}");
    }
}
