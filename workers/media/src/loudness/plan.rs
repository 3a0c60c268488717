//! What is to be done so that a recording meets its targets.

use fourmi_kinds::{EbuR128, LoudnessReport, NormalizationType};
use fourmi_model::Failure;
use serde::{Deserialize, Serialize};

use super::{
    contour::{self, BLOCKS_IN_HOP, Contour, HOPS_IN_SECOND},
    rounded,
};

/// What a limiter may leave above its ceiling, in dB: so much lower the ceiling is. Meters differ by as much.
const MARGIN_DB: f64 = 0.2;

/// Nearer than this to its target, in LU, a prediction is good enough.
const NEAR_ENOUGH: f64 = 0.02;

/// More gain than one factor would need, in dB, and still too soft: more would only flatten it.
const MOST_MAKE_UP_DB: f64 = 20.0;

/// No passage becomes louder or softer than others by more than this, in dB.
const MOST_CURVE_DB: f64 = 15.0;

/// How long the mean goes over which a curve is smoothed, in seconds to either side.
const SMOOTH_SECONDS: usize = 2;

/// What was measured of a recording: LUFS, dBTP, LU, LUFS.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) integrated: Option<f64>,
    pub(crate) true_peak: Option<f64>,
    pub(crate) range: Option<f64>,
    pub(crate) threshold: Option<f64>,
}

/// What is done to the sound.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Change {
    /// Nothing: it is silent.
    None,
    /// One factor for all.
    Linear {
        /// In dB.
        gain_db: f64,
    },
    /// A gain that follows a curve, and a limiter.
    Dynamic {
        /// In dB, for all.
        gain_db: f64,
        /// In hundredths of dB, more or less than that, one a second; none if the loudness range is as it should be.
        curve: Vec<i16>,
        /// What no true peak passes, in dBTP.
        ceiling_db: f64,
    },
}

/// What was measured and is to be done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Planned {
    pub(crate) measured: Measured,
    pub(crate) change: Change,
    /// What the change will come to, in LUFS.
    pub(crate) expected: Option<f64>,
}

impl Planned {
    /// Whether the sound is as it should be, as near as anybody hears.
    pub(crate) fn is_idle(&self) -> bool {
        match self.change {
            Change::None => true,
            Change::Linear { gain_db } => gain_db.abs() < 0.1,
            Change::Dynamic { .. } => false,
        }
    }

    /// The report, with what was measured afterwards. One factor needs no measuring; `copied` sound did not even get that.
    pub(crate) fn report(&self, after: Option<&Measured>, copied: bool) -> LoudnessReport {
        let Measured { integrated, true_peak, range, threshold } = self.measured;
        let (normalization_type, gain_db) = match self.change {
            Change::None => (NormalizationType::None, None),
            Change::Linear { .. } if copied => (NormalizationType::Linear, Some(0.0)),
            Change::Linear { gain_db } => (NormalizationType::Linear, Some(gain_db)),
            Change::Dynamic { .. } => (NormalizationType::Dynamic, None),
        };
        let moved = |value: Option<f64>| rounded(value? + gain_db.unwrap_or(0.0));
        let expected = if copied { integrated } else { self.expected };
        LoudnessReport {
            input_i: integrated,
            input_tp: true_peak,
            input_lra: range,
            input_thresh: threshold,
            output_i: after.map_or(expected, |after| after.integrated),
            output_tp: after.map_or_else(|| moved(true_peak), |after| after.true_peak),
            normalization_type,
            gain_db,
        }
    }
}

impl Contour {
    /// The figures.
    pub(crate) fn measured(&self) -> Measured {
        figures(&self.hops(), self.peak())
    }

    /// What is to be done so that the sound meets `targets`; `go_on` is asked now and then.
    ///
    /// # Errors
    /// What `go_on` says.
    pub(crate) fn plan(&self, targets: &EbuR128, go_on: &dyn Fn() -> Result<(), Failure>) -> Result<Planned, Failure> {
        let hops = self.hops();
        let measured = figures(&hops, self.peak());
        let (Some(integrated), Some(true_peak)) = (measured.integrated, measured.true_peak) else {
            return Ok(Planned { measured, change: Change::None, expected: None });
        };
        let (gain_db, expected) = linear(&hops, targets.integrated_lufs - integrated, targets.integrated_lufs);
        let ceiling_db = targets.true_peak_dbtp - MARGIN_DB;
        let too_wide = measured.range.is_some_and(|range| range > targets.range_lu);
        if true_peak + gain_db <= ceiling_db && !too_wide {
            let change = Change::Linear { gain_db };
            return Ok(Planned { measured, change, expected: rounded(expected) });
        }
        let curve = if too_wide { narrowing(&hops, integrated, targets.range_lu) } else { Vec::new() };
        let (gain_db, expected) = self.make_up(&curve, gain_db, targets.integrated_lufs, ceiling_db, go_on)?;
        Ok(Planned { measured, change: Change::Dynamic { gain_db, curve, ceiling_db }, expected: rounded(expected) })
    }

    /// The gain with which the limited sound is as loud as it should be, and how loud it then is.
    fn make_up(
        &self,
        curve: &[i16],
        linear_db: f64,
        target: f64,
        ceiling_db: f64,
        go_on: &dyn Fn() -> Result<(), Failure>,
    ) -> Result<(f64, f64), Failure> {
        let (mut gain_db, mut reached) = (linear_db, target);
        let mut before: Option<(f64, f64)> = None;
        for _ in 0..24 {
            go_on()?;
            let hops = self.hops_limited(|hop| gain_db + at(curve, hop_seconds(hop)), ceiling_db);
            let Some(integrated) = contour::integrated(&hops) else { break };
            reached = integrated.loudness;
            // The more is limited, the less a dB of gain comes to.
            let slope = before.map_or(1.0, |(gain, loudness)| (reached - loudness) / (gain_db - gain));
            let step = (target - reached) / slope.clamp(0.2, 1.0);
            let next = rounded((gain_db + step).min(linear_db + MOST_MAKE_UP_DB)).unwrap_or(gain_db);
            if (target - reached).abs() < NEAR_ENOUGH || (next - gain_db).abs() < NEAR_ENOUGH / 2.0 {
                break;
            }
            before = Some((gain_db, reached));
            gain_db = next;
        }
        Ok((gain_db, reached))
    }
}

/// The factor that makes sound as loud as `target`, and how loud it then is. More of a very soft recording counts once it is
/// louder: then that counts too.
fn linear(hops: &[f64], first_db: f64, target: f64) -> (f64, f64) {
    let mut gain_db = rounded(first_db).unwrap_or(0.0);
    let mut reached = target;
    for _ in 0..8 {
        let louder: Vec<_> = hops.iter().map(|energy| energy * 10_f64.powf(gain_db / 10.0)).collect();
        reached = contour::integrated(&louder).map_or(target, |integrated| integrated.loudness);
        if (target - reached).abs() < NEAR_ENOUGH {
            break;
        }
        gain_db = rounded(gain_db + target - reached).unwrap_or(gain_db);
    }
    (gain_db, reached)
}

fn figures(hops: &[f64], peak: Option<f64>) -> Measured {
    let integrated = contour::integrated(hops);
    let loud = integrated.is_some();
    Measured {
        integrated: integrated.as_ref().and_then(|it| rounded(it.loudness)),
        threshold: integrated.as_ref().and_then(|it| rounded(it.threshold)),
        true_peak: peak.and_then(rounded),
        range: loud.then(|| contour::range(hops)).and_then(rounded),
    }
}

/// The value of a curve at a time, in dB.
pub(super) fn at(curve: &[i16], seconds: f64) -> f64 {
    let point = |index: usize| curve.get(index).or(curve.last()).map_or(0.0, |&value| f64::from(value) / 100.0);
    let seconds = seconds.max(0.0);
    let index = seconds as usize;
    let share = seconds - index as f64;
    point(index) * (1.0 - share) + point(index + 1) * share
}

fn hop_seconds(hop: usize) -> f64 {
    (hop as f64 + 0.5) / HOPS_IN_SECOND as f64
}

/// The curve that narrows the loudness range to `target`, in hundredths of dB, one a second.
fn narrowing(hops: &[f64], integrated: f64, target: f64) -> Vec<i16> {
    let course = course(hops, integrated);
    let (mut too_little, mut enough) = (0.0, 1.0);
    for _ in 0..10 {
        let share = f64::midpoint(too_little, enough);
        let curve = flattened(&course, share);
        let changed: Vec<_> = hops
            .iter()
            .enumerate()
            .map(|(hop, energy)| energy * 10_f64.powf(at(&curve, hop_seconds(hop)) / 10.0))
            .collect();
        if contour::range(&changed) <= target { enough = share } else { too_little = share }
    }
    flattened(&course, enough)
}

/// How much louder than the whole each second and its surroundings are, in LU. Where next to nothing is heard, the second
/// before holds: pauses are not filled with their own noise.
fn course(hops: &[f64], integrated: f64) -> Vec<f64> {
    let short_term: Vec<_> = contour::short_term(hops).map(contour::loudness).collect();
    let gate = integrated - 20.0;
    let seconds = hops.len().div_ceil(HOPS_IN_SECOND) + 1;
    let around = |second: usize| {
        // The window of 3 s that has this second in its middle.
        let index = (second * HOPS_IN_SECOND).saturating_sub(15);
        short_term.get(index).or(short_term.last()).copied().filter(|&loudness| loudness > gate)
    };
    let first = (0..seconds).find_map(around).unwrap_or(integrated);
    let mut held = first - integrated;
    (0..seconds)
        .map(|second| {
            held = around(second).map_or(held, |loudness| loudness - integrated);
            held
        })
        .collect()
}

fn flattened(course: &[f64], share: f64) -> Vec<i16> {
    let smooth = |second: usize| {
        let (start, end) = (second.saturating_sub(SMOOTH_SECONDS), (second + SMOOTH_SECONDS + 1).min(course.len()));
        let around = &course[start..end];
        around.iter().sum::<f64>() / around.len() as f64
    };
    let gain = |second: usize| (-share * smooth(second)).clamp(-MOST_CURVE_DB, MOST_CURVE_DB);
    (0..course.len()).map(|second| (gain(second) * 100.0).round() as i16).collect()
}

// Hops, seconds and blocks fit into one another.
const _: () = assert!(BLOCKS_IN_HOP * HOPS_IN_SECOND * contour::BLOCK_MS as usize == 1_000);

#[cfg(test)]
mod tests {
    use super::{super::contour::Block, *};

    fn plan(contour: &Contour) -> Planned {
        contour.plan(&EbuR128::default(), &|| Ok(())).unwrap_or_else(|failure| panic!("{failure}"))
    }

    fn seconds(contour: &mut Contour, seconds: usize, loudness: f64, peak: f64) {
        for _ in 0..seconds * 200 {
            contour.push(Block::new(loudness, peak));
        }
    }

    #[test]
    fn one_factor_is_taken_where_it_will_do() {
        let mut contour = Contour::default();
        seconds(&mut contour, 10, -23.0, -12.0);
        assert_eq!(plan(&contour).change, Change::Linear { gain_db: 7.0 });
    }

    #[test]
    fn what_a_limiter_takes_away_is_made_up_for() {
        let mut contour = Contour::default();
        for _ in 0..10 {
            seconds(&mut contour, 1, -26.0, -12.0);
            contour.push(Block::new(-10.0, -1.0));
        }
        let planned = plan(&contour);
        let Change::Dynamic { gain_db, curve, .. } = &planned.change else { panic!("{planned:?}") };
        assert!(curve.is_empty());
        assert!(planned.measured.integrated.is_some_and(|integrated| *gain_db > -16.0 - integrated));
        assert_eq!(planned.expected.map(f64::round), Some(-16.0));
    }

    #[test]
    fn a_wide_range_is_narrowed() {
        let mut contour = Contour::default();
        for _ in 0..6 {
            seconds(&mut contour, 20, -20.0, -15.0);
            seconds(&mut contour, 20, -36.0, -30.0);
        }
        let planned = plan(&contour);
        assert!(planned.measured.range.is_some_and(|range| (range - 16.0).abs() < 0.5), "{:?}", planned.measured);
        let Change::Dynamic { curve, .. } = &planned.change else { panic!("{planned:?}") };
        assert!((450..700).contains(&(curve[30] - curve[10])), "as much as it takes: {curve:?}");
    }

    #[test]
    fn silence_is_left_alone() {
        let mut contour = Contour::default();
        seconds(&mut contour, 5, f64::NEG_INFINITY, f64::NEG_INFINITY);
        assert_eq!(plan(&contour).change, Change::None);
    }
}
