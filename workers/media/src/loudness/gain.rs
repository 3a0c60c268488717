//! Changes sound as it was planned.

use ffmpeg_next::frame;

use super::{
    factor,
    limiter::Limiter,
    plan::{self, Change},
};
use crate::libav::planes_mut;

/// The gain moves in straight lines over so many samples.
const RAMP: usize = 256;

/// Changes sound as it was planned, while it passes by.
pub(crate) struct Gain {
    gain_db: f64,
    curve: Vec<i16>,
    limiter: Option<Limiter>,
    rate: u32,
    /// Samples of each channel that passed.
    passed: u64,
}

impl Gain {
    /// For sound of so many samples a second and channels.
    pub(crate) fn new(change: &Change, rate: u32, channels: u32) -> Self {
        let limiter = |ceiling_db| Limiter::new(factor(ceiling_db), rate, channels as usize);
        let (gain_db, curve, limiter) = match change {
            Change::None => (0.0, Vec::new(), None),
            Change::Linear { gain_db } => (*gain_db, Vec::new(), None),
            Change::Dynamic { gain_db, curve, ceiling_db } => (*gain_db, curve.clone(), Some(limiter(*ceiling_db))),
        };
        Self { gain_db, curve, limiter, rate, passed: 0 }
    }

    /// How many samples later it gives out what it takes in.
    pub(crate) fn delay(&self) -> usize {
        self.limiter.as_ref().map_or(0, Limiter::delay)
    }

    /// Takes a frame of planar floats, and leaves what is due in its place.
    pub(crate) fn change(&mut self, frame: &mut frame::Audio) {
        let samples = frame.samples();
        let mut planes = planes_mut(frame);
        let mut at = 0;
        while at < samples {
            let end = (at + RAMP).min(samples);
            let (from, to) = (self.factor_after(at), self.factor_after(end));
            let step = (to - from) / (end - at) as f32;
            for plane in &mut planes {
                for (sample, number) in plane[at..end].iter_mut().zip(0_u16..) {
                    *sample *= from + step * f32::from(number);
                }
            }
            at = end;
        }
        self.passed += samples as u64;
        if let Some(limiter) = &mut self.limiter {
            limiter.limit(&mut planes);
        }
    }

    fn factor_after(&self, samples: usize) -> f32 {
        let seconds = (self.passed + samples as u64) as f64 / f64::from(self.rate.max(1));
        factor(self.gain_db + plan::at(&self.curve, seconds)) as f32
    }
}
