//! Loudness by EBU R 128: measuring it, deciding what to do about it, and doing it.
//!
//! ```text
//! first pass:  sound → Meter → Contour → Contour::plan → Change     (kept between the passes)
//! second pass: sound → Gain: one factor, or a curve of factors and a limiter → sound
//! ```
//!
//! FFmpeg's `loudnorm` was tried for what one factor cannot do. It works at 192 kHz, and what it comes to is known only
//! when it is done: often more than half a unit beside the target. Here the first pass keeps the loudness and the true peak
//! of every five milliseconds, so that what a limiter and a slow change of the gain come to is known beforehand.

mod contour;
mod gain;
mod limiter;
mod meter;
mod plan;

pub(crate) use gain::Gain;
pub(crate) use meter::Meter;
pub(crate) use plan::{Change, Measured, Planned};

/// Decibels of a factor on amplitudes.
pub(crate) fn decibels(factor: f64) -> f64 {
    20.0 * factor.log10()
}

/// The factor on amplitudes of decibels.
pub(crate) fn factor(decibels: f64) -> f64 {
    10_f64.powf(decibels / 20.0)
}

/// Two decimals, as many as anybody hears and JSON keeps exactly; none if it is no number.
pub(crate) fn rounded(value: f64) -> Option<f64> {
    value.is_finite().then(|| (value * 100.0).round() / 100.0)
}
