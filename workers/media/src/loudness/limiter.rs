//! A limiter of true peaks.
//!
//! The least gain that the next milliseconds need is held, let go of slowly, and then averaged over as long as it was known
//! beforehand: so it is reached smoothly, and in time. Peaks between samples are found by interpolation as in ITU-R BS.1770-4,
//! annex 2.

use std::collections::VecDeque;

/// How long beforehand the gain goes down.
const LOOK_AHEAD_SECONDS: f64 = 0.005;

/// How far, by the energy of a step, the gain has gone down for the step that follows.
const ALREADY: f64 = 0.4;

/// How long it takes to come back, by two thirds.
const RELEASE_SECONDS: f64 = 0.12;

/// Samples that an interpolation looks at, and the points between two samples.
const TAPS: usize = 24;
const POINTS: usize = 3;

/// No interpolation is more than this many times as high as the samples that it looks at.
const MOST_OVERSHOOT: f32 = 2.0;

/// A limiter for some channels, which get the same gain.
pub(super) struct Limiter {
    ceiling: f32,
    taps: [[f32; TAPS]; POINTS],
    channels: Vec<Channel>,
    needed: SlidingMinimum,
    release: Release,
    average: Average,
    /// How many samples ago something was loud enough to be looked at closely.
    calm_for: usize,
}

impl Limiter {
    /// Nothing will be higher than `ceiling`, where 1 is full scale.
    pub(super) fn new(ceiling: f64, rate: u32, channels: usize) -> Self {
        let look_ahead = ((f64::from(rate) * LOOK_AHEAD_SECONDS) as usize).max(1);
        let delay = look_ahead + TAPS / 2;
        Self {
            ceiling: ceiling as f32,
            taps: taps(),
            channels: (0..channels).map(|_| Channel::new(delay)).collect(),
            needed: SlidingMinimum::new(look_ahead + TAPS),
            release: Release::new(f64::from(rate).recip()),
            average: Average::new(look_ahead),
            calm_for: TAPS,
        }
    }

    /// How many samples later it gives out what it takes in.
    pub(super) fn delay(&self) -> usize {
        self.channels.first().map_or(0, |channel| channel.delayed.len())
    }

    /// Takes the next samples of all channels, and leaves those that are due in their place.
    pub(super) fn limit(&mut self, planes: &mut [&mut [f32]]) {
        let samples = planes.iter().map(|plane| plane.len()).min().unwrap_or(0);
        for at in 0..samples {
            let peak = self.peak(planes, at);
            let needed = if peak > self.ceiling { self.ceiling / peak } else { 1.0 };
            let least = self.needed.next(needed);
            let gain = self.average.next(self.release.next(f64::from(least))) as f32;
            for (plane, channel) in planes.iter_mut().zip(&mut self.channels) {
                plane[at] = channel.delay(plane[at]) * gain;
            }
        }
    }

    /// The highest of a sample of all channels and of what lies between earlier ones.
    fn peak(&mut self, planes: &[&mut [f32]], at: usize) -> f32 {
        let mut peak = 0.0_f32;
        for (plane, channel) in planes.iter().zip(&mut self.channels) {
            channel.remember(plane[at]);
            peak = peak.max(plane[at].abs());
        }
        self.calm_for = if peak * MOST_OVERSHOOT > self.ceiling { 0 } else { self.calm_for.saturating_add(1) };
        if self.calm_for < TAPS {
            let between = self.channels.iter().map(|channel| channel.between(&self.taps));
            peak = between.fold(peak, f32::max);
        }
        peak
    }
}

struct Channel {
    delayed: VecDeque<f32>,
    /// The last samples, twice, so that they always lie in one piece.
    recent: [f32; 2 * TAPS],
    oldest: usize,
}

impl Channel {
    fn new(delay: usize) -> Self {
        Self { delayed: VecDeque::from(vec![0.0; delay]), recent: [0.0; 2 * TAPS], oldest: 0 }
    }

    fn delay(&mut self, sample: f32) -> f32 {
        self.delayed.push_back(sample);
        self.delayed.pop_front().unwrap_or_default()
    }

    fn remember(&mut self, sample: f32) {
        self.recent[self.oldest] = sample;
        self.recent[self.oldest + TAPS] = sample;
        self.oldest = (self.oldest + 1) % TAPS;
    }

    /// The highest point between the two samples in the middle of the last.
    fn between(&self, taps: &[[f32; TAPS]; POINTS]) -> f32 {
        let recent = &self.recent[self.oldest..self.oldest + TAPS];
        let point = |taps: &[f32; TAPS]| recent.iter().zip(taps).map(|(sample, tap)| sample * tap).sum::<f32>().abs();
        taps.iter().map(point).fold(0.0, f32::max)
    }
}

/// Windowed sinc functions for the quarters between two samples.
fn taps() -> [[f32; TAPS]; POINTS] {
    let tap = |point: usize, tap: usize| {
        let middle = TAPS as f64 / 2.0 - 1.0;
        let x = tap as f64 - middle - (point + 1) as f64 / (POINTS + 1) as f64;
        let angle = std::f64::consts::PI * x;
        let window = 0.5 + 0.5 * (angle / (TAPS as f64 / 2.0 + 0.5)).cos();
        (angle.sin() / angle * window) as f32
    };
    std::array::from_fn(|point| std::array::from_fn(|at| tap(point, at)))
}

/// The least of the last values.
struct SlidingMinimum {
    length: u64,
    at: u64,
    /// Values that may yet be the least, rising, and where they were.
    candidates: VecDeque<(u64, f32)>,
}

impl SlidingMinimum {
    fn new(length: usize) -> Self {
        Self { length: length as u64, at: 0, candidates: VecDeque::with_capacity(length + 1) }
    }

    fn next(&mut self, value: f32) -> f32 {
        while self.candidates.back().is_some_and(|&(_, last)| last >= value) {
            self.candidates.pop_back();
        }
        self.candidates.push_back((self.at, value));
        self.at += 1;
        while self.candidates.front().is_some_and(|&(at, _)| at + self.length < self.at + 1) {
            self.candidates.pop_front();
        }
        self.candidates.front().map_or(value, |&(_, least)| least)
    }
}

/// Goes down at once and up slowly.
struct Release {
    held: f64,
    share: f64,
}

impl Release {
    fn new(step_seconds: f64) -> Self {
        Self { held: 1.0, share: 1.0 - (-step_seconds / RELEASE_SECONDS).exp() }
    }

    fn next(&mut self, value: f64) -> f64 {
        self.held = if value < self.held { value } else { self.held + (value - self.held) * self.share };
        self.held
    }
}

/// The mean of the last values.
struct Average {
    values: VecDeque<f64>,
    sum: f64,
}

impl Average {
    fn new(length: usize) -> Self {
        Self { values: VecDeque::from(vec![1.0; length]), sum: length as f64 }
    }

    fn next(&mut self, value: f64) -> f64 {
        self.values.push_back(value);
        self.sum += value - self.values.pop_front().unwrap_or(value);
        // Rounding must not raise what may not pass the ceiling.
        (self.sum / self.values.len() as f64).min(1.0)
    }
}

/// The same in coarse steps, of the length of the look ahead: what the limiter will come to.
pub(super) struct Follower(Release);

impl Follower {
    pub(super) fn new(step_seconds: f64) -> Self {
        Self(Release::new(step_seconds))
    }

    /// The mean gain over a step in which `needed` is the least that is needed, and `soon` in the one after.
    pub(super) fn follow(&mut self, needed: f64, soon: f64) -> f64 {
        let gain = self.0.next(needed);
        gain + (soon.min(gain) - gain) * ALREADY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limited(mut sound: Vec<f32>, ceiling: f64) -> Vec<f32> {
        let mut limiter = Limiter::new(ceiling, 48_000, 1);
        sound.extend(std::iter::repeat_n(0.0, limiter.delay()));
        limiter.limit(&mut [&mut sound]);
        sound.drain(..limiter.delay());
        sound
    }

    #[test]
    fn what_is_soft_enough_is_left_alone() {
        let sound: Vec<f32> = (0..10_000_u16).map(|n| (f32::from(n) * 0.3).sin() * 0.4).collect();
        assert!(limited(sound.clone(), 0.5).iter().zip(&sound).all(|(one, other)| (one - other).abs() < 1e-6));
    }

    #[test]
    fn no_sample_passes_the_ceiling_however_sudden_it_is() {
        let mut sound = vec![0.1; 20_000];
        for at in [5_000, 5_001, 9_000, 12_345] {
            sound[at] = 4.0;
        }
        sound[13_000] = -7.0;
        let limited = limited(sound, 0.5);
        assert!(limited.iter().all(|sample| sample.abs() <= 0.5));
        assert!((limited[3_000] - 0.1).abs() < 1e-6, "long before");
        assert!(limited[8_990] > 0.01, "and it comes back");
    }

    #[test]
    fn peaks_between_samples_count() {
        // A quarter of the sample rate, sampled beside its peaks: they are 3 dB higher than any sample.
        let phase = std::f32::consts::FRAC_PI_4;
        let sound: Vec<f32> =
            (0..10_000_u16).map(|n| (f32::from(n) * std::f32::consts::FRAC_PI_2 + phase).sin() * 0.6).collect();
        let loudest = limited(sound, 0.5).iter().skip(1_000).fold(0.0_f32, |most, sample| most.max(sample.abs()));
        assert!((0.33..0.37).contains(&loudest), "{loudest}");
    }
}
