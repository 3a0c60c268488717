//! How loud a recording is over time, and the figures of EBU R 128 that follow from it.
//!
//! See ITU-R BS.1770-4 (integrated loudness, gates) and EBU Tech 3342 (loudness range).

use super::limiter;

/// The length of a block. It divides the 100 ms by which the windows of the standards move.
pub(super) const BLOCK_MS: u32 = 5;

/// Blocks in a hop of 100 ms.
pub(super) const BLOCKS_IN_HOP: usize = 20;

/// Hops in a second.
pub(super) const HOPS_IN_SECOND: usize = 10;

/// Hops in the windows of 400 ms, over which integrated loudness is gated, and of 3 s, over which the range is.
const HOPS_IN_GATE: usize = 4;
const HOPS_IN_SHORT_TERM: usize = 30;

/// What is softer never counts, in LUFS.
const ABSOLUTE_GATE: f64 = -70.0;

/// A block of sound, in hundredths of LUFS and of dBTP: four bytes, so that two days fit into memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    loudness: i16,
    peak: i16,
}

impl Block {
    pub(super) fn new(loudness: f64, peak: f64) -> Self {
        // A conversion of floats saturates: silence becomes the least number.
        Self { loudness: (loudness * 100.0).round() as i16, peak: (peak * 100.0).round() as i16 }
    }

    fn energy(self) -> f64 {
        if self.loudness == i16::MIN { 0.0 } else { 10_f64.powf(f64::from(self.loudness) / 1_000.0) }
    }
}

/// How loud a recording is, block by block.
#[derive(Debug, Clone, Default)]
pub(crate) struct Contour {
    blocks: Vec<Block>,
}

/// Integrated loudness and the gate below which nothing counted, both in LUFS.
pub(super) struct Integrated {
    pub(super) loudness: f64,
    pub(super) threshold: f64,
}

impl Contour {
    pub(super) fn push(&mut self, block: Block) {
        self.blocks.push(block);
    }

    /// Only the blocks from one to another.
    pub(crate) fn cut(&mut self, start: usize, end: usize) {
        self.blocks.truncate(end);
        self.blocks.drain(..start.min(self.blocks.len()));
    }

    /// The highest true peak in dBTP; none of silence.
    pub(super) fn peak(&self) -> Option<f64> {
        let peak = self.blocks.iter().map(|block| block.peak).max()?;
        (peak > i16::MIN).then(|| f64::from(peak) / 100.0)
    }

    /// The energy of every whole hop.
    pub(super) fn hops(&self) -> Vec<f64> {
        let mean = |blocks: &[Block]| blocks.iter().map(|block| block.energy()).sum::<f64>() / blocks.len() as f64;
        self.blocks.chunks_exact(BLOCKS_IN_HOP).map(mean).collect()
    }

    /// The same once `gain_db` (of a hop) and a limiter changed it; `ceiling_db` is in dBTP.
    pub(super) fn hops_limited(&self, gain_db: impl Fn(usize) -> f64, ceiling_db: f64) -> Vec<f64> {
        let mut follower = limiter::Follower::new(f64::from(BLOCK_MS) / 1_000.0);
        let needed = |block: &Block, gain_db: f64| {
            let excess = gain_db + f64::from(block.peak) / 100.0 - ceiling_db;
            if excess > 0.0 { super::factor(-excess) } else { 1.0 }
        };
        let mut hops = Vec::with_capacity(self.blocks.len() / BLOCKS_IN_HOP);
        for (number, blocks) in self.blocks.chunks_exact(BLOCKS_IN_HOP).enumerate() {
            let gain_db = gain_db(number);
            let gain = super::factor(gain_db);
            let mut energy = 0.0;
            for (block, at) in blocks.iter().zip(number * BLOCKS_IN_HOP + 1..) {
                let soon = self.blocks.get(at).map_or(1.0, |next| needed(next, gain_db));
                let limited = follower.follow(needed(block, gain_db), soon);
                energy += block.energy() * (limited * limited);
            }
            hops.push(energy * gain * gain / BLOCKS_IN_HOP as f64);
        }
        hops
    }
}

/// Integrated loudness; none of silence, and of less than 400 ms.
pub(super) fn integrated(hops: &[f64]) -> Option<Integrated> {
    let windows = || hops.windows(HOPS_IN_GATE).map(mean).filter(|&energy| loudness(energy) > ABSOLUTE_GATE);
    let threshold = loudness(mean_of(windows())?) - 10.0;
    let loudness_of_loud = loudness(mean_of(windows().filter(|&energy| loudness(energy) > threshold))?);
    Some(Integrated { loudness: loudness_of_loud, threshold })
}

/// Loudness range in LU; 0 of less than 3 s.
pub(super) fn range(hops: &[f64]) -> f64 {
    let mut windows: Vec<f64> = short_term(hops).map(loudness).filter(|&loudness| loudness > ABSOLUTE_GATE).collect();
    let Some(mean) = mean_of(windows.iter().map(|loudness| 10_f64.powf(loudness / 10.0))) else { return 0.0 };
    let gate = loudness(mean) - 20.0;
    windows.retain(|&loudness| loudness > gate);
    windows.sort_unstable_by(f64::total_cmp);
    let percentile = |percent: f64| {
        let place = (windows.len().saturating_sub(1)) as f64 * percent / 100.0;
        windows.get(place.round() as usize).copied().unwrap_or_default()
    };
    percentile(95.0) - percentile(10.0)
}

/// The energy of every window of 3 s.
pub(super) fn short_term(hops: &[f64]) -> impl Iterator<Item = f64> {
    hops.windows(HOPS_IN_SHORT_TERM).map(mean)
}

/// The loudness of an energy in LUFS.
pub(super) fn loudness(energy: f64) -> f64 {
    10.0 * energy.log10()
}

fn mean(energies: &[f64]) -> f64 {
    energies.iter().sum::<f64>() / energies.len() as f64
}

fn mean_of(energies: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = energies.fold((0.0, 0_u64), |(sum, count), energy| (sum + energy, count + 1));
    (count > 0).then(|| sum / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_has_no_loudness_and_does_not_count() {
        let mut contour = Contour::default();
        assert!(integrated(&contour.hops()).is_none() && contour.peak().is_none());
        for _ in 0..400 {
            contour.push(Block::new(f64::NEG_INFINITY, f64::NEG_INFINITY));
        }
        assert!(integrated(&contour.hops()).is_none() && contour.peak().is_none());
        for _ in 0..2_000 {
            contour.push(Block::new(-20.0, -3.0));
        }
        let hops = contour.hops();
        assert!((integrated(&hops).map_or(0.0, |it| it.loudness) + 20.0).abs() < 0.1);
        assert_eq!(contour.peak(), Some(-3.0));
    }
}
