//! Measures loudness and true peaks while sound passes by.

use ebur128::{EbuR128, Mode};
use ffmpeg_next::frame;
use fourmi_model::Failure;

use super::{
    contour::{BLOCK_MS, Block, Contour},
    decibels,
};
use crate::{failure, libav::planes};

/// Measures loudness and true peaks. Channels weigh as in BS.1770: one channel alone as the left of two, as in FFmpeg's
/// `ebur128`.
pub(crate) struct Meter {
    state: EbuR128,
    /// Samples in a block.
    block: usize,
    /// What is left of each channel until a block is full.
    pending: Vec<Vec<f32>>,
    contour: Contour,
}

impl Meter {
    /// # Errors
    /// `ffmpeg_failed`, for sound that nobody can measure.
    pub(crate) fn new(rate: u32, channels: u32) -> Result<Self, Failure> {
        let state = EbuR128::new(channels, rate, Mode::M | Mode::TRUE_PEAK).map_err(|error| unmeasured(&error))?;
        let block = (rate * BLOCK_MS / 1_000).max(1) as usize;
        let pending = vec![Vec::with_capacity(block); channels as usize];
        Ok(Self { state, block, pending, contour: Contour::default() })
    }

    /// Samples of each channel in a block of the contour.
    pub(crate) fn block(&self) -> usize {
        self.block
    }

    /// Takes note of a frame of planar floats.
    ///
    /// # Errors
    /// `ffmpeg_failed`.
    pub(crate) fn take(&mut self, frame: &frame::Audio) -> Result<(), Failure> {
        let planes = planes(frame);
        let mut at = 0;
        while at < frame.samples() {
            let missing = self.block - self.pending.first().map_or(0, Vec::len);
            let end = (at + missing).min(frame.samples());
            for (pending, plane) in self.pending.iter_mut().zip(&planes) {
                pending.extend_from_slice(&plane[at..end]);
            }
            at = end;
            if self.pending.first().is_none_or(|pending| pending.len() == self.block) {
                self.measure().map_err(|error| unmeasured(&error))?;
            }
        }
        Ok(())
    }

    /// What was measured; the last milliseconds count with silence after them.
    ///
    /// # Errors
    /// `ffmpeg_failed`.
    pub(crate) fn end(mut self) -> Result<Contour, Failure> {
        if self.pending.first().is_some_and(|pending| !pending.is_empty()) {
            self.pending.iter_mut().for_each(|pending| pending.resize(self.block, 0.0));
            self.measure().map_err(|error| unmeasured(&error))?;
        }
        Ok(self.contour)
    }

    fn measure(&mut self) -> Result<(), ebur128::Error> {
        let block: Vec<&[f32]> = self.pending.iter().map(Vec::as_slice).collect();
        self.state.add_frames_planar_f32(&block)?;
        let mut peak = 0.0_f64;
        for channel in 0..self.state.channels() {
            peak = peak.max(self.state.prev_true_peak(channel)?);
        }
        self.contour.push(Block::new(self.state.loudness_window(BLOCK_MS)?, decibels(peak)));
        self.pending.iter_mut().for_each(Vec::clear);
        Ok(())
    }
}

fn unmeasured(error: &ebur128::Error) -> Failure {
    failure::internal(&format!("measuring the loudness failed: {error}"))
}
