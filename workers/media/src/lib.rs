#![doc = include_str!("../README.md")]

pub mod audio;
mod failure;
mod files;
mod libav;
mod loudness;

pub mod pictures;

pub mod probe;
/// What something is, before it is fetched.
pub mod sniff {
    pub use crate::libav::detect::{Sniffed, sniff};
}
mod progress;
mod structure;
mod waveform;

use fourmi_model::Progress;

/// What a run tells, and asks, those who started it. Both are called often, from the thread that works.
pub trait Control: Sync {
    /// Takes note of how far the run is: at most 20 times a second, the percentage never going back.
    fn progress(&self, progress: Progress);

    /// Whether to stop. Must be cheap: libav asks it while it reads and writes.
    fn cancelled(&self) -> bool;
}
