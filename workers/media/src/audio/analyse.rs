//! The pass before the encoding: how loud the sound is, and where it begins and ends.

use std::path::Path;

use ffmpeg_next::{Rational, Rescale, frame};
use fourmi_kinds::{AudioExtract, EbuR128, LoudnessMode, MediaNote, SilenceTrim};
use fourmi_model::Failure;
use serde::{Deserialize, Serialize};

use super::{
    decode::{self, Decode},
    formats,
    judge::{Reading, note},
    labels::Extras,
    level::Levelling,
    recording::Recording,
    shape::{Form, Sink},
    track::Part,
};
use crate::{
    Control, failure,
    libav::{MICROSECONDS, log, planes, tame},
    loudness::{Change, Meter, Planned, factor},
    progress::{Pace, Place},
};

/// What the pass before the encoding found out. It may be kept, and used by another run on the same recording with the same
/// request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Analysis {
    /// The part without the silence at its ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    part: Option<Part>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    loudness: Option<Planned>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    notes: Vec<MediaNote>,
}

impl Analysis {
    pub(super) fn part(&self) -> Option<Part> {
        self.part
    }

    pub(super) fn notes(&self) -> &[MediaNote] {
        &self.notes
    }
}

/// How the loudness is to be changed, if it is.
pub(super) fn levelling<'a>(request: &AudioExtract, analysis: Option<&'a Analysis>) -> Option<Levelling<'a>> {
    let targets = request.loudness()?;
    match targets.mode {
        LoudnessMode::OnePass => Some(Levelling::OnePass(targets)),
        LoudnessMode::TwoPass => analysis?.loudness.as_ref().map(Levelling::Planned),
    }
}

/// Listens to the recording before it is encoded, if `request` needs that: for loudness in two passes, and for silence at its
/// ends. Tells how far it is as the stage `analyse`.
///
/// # Errors
/// Those of [`super::extract`].
pub fn analyse(
    input: &Path,
    request: &AudioExtract,
    extras: &Extras<'_>,
    control: &dyn Control,
) -> Result<Option<Analysis>, Failure> {
    let wanted = Wanted::of(request);
    if wanted.targets.is_none() && wanted.silence.is_none() {
        return Ok(None);
    }
    let _log = log::Capture::start();
    listen(input, request, extras, wanted, control).map(Some).map_err(|failure| {
        // libav has many words for being interrupted.
        if control.cancelled() { Failure::cancelled() } else { failure }
    })
}

/// What is to be found out.
#[derive(Clone, Copy)]
struct Wanted {
    targets: Option<EbuR128>,
    silence: Option<SilenceTrim>,
}

impl Wanted {
    fn of(request: &AudioExtract) -> Self {
        Self {
            targets: request.loudness().filter(|targets| targets.mode == LoudnessMode::TwoPass),
            silence: request.trim.and_then(|trim| trim.silence),
        }
    }
}

fn listen(
    input: &Path,
    request: &AudioExtract,
    extras: &Extras<'_>,
    wanted: Wanted,
    control: &dyn Control,
) -> Result<Analysis, Failure> {
    let mut recording = Recording::open(input, request.max_duration_ms, control)?;
    let (_, part) = recording.asked(request, extras)?;
    let mut pace = Pace::start(control, "analyse");
    let form = formats::listening_form(request, &recording.track.stream);
    let heard =
        hear(&mut recording, part, form, wanted, &mut pace).map_err(|failure| failure::in_stage(failure, "analyse"))?;
    let media_ms = heard.ms();
    let analysis = heard.conclude(part, wanted, &|| pace.go_on())?;
    pace.done(&Place { fraction: 1.0, media_ms, output_bytes: 0 });
    Ok(analysis)
}

fn hear(
    recording: &mut Recording<'_>,
    part: Part,
    form: Form,
    wanted: Wanted,
    pace: &mut Pace<'_>,
) -> Result<Listener, Failure> {
    let mut listener = Listener::new(form, wanted)?;
    let parameters = recording.input.parameters(recording.track.stream.index);
    let decode = Decode::prepare(parameters, &recording.track, part, form)?;
    let mut packets = recording.packets(part, decode::MARGIN);
    decode.run(&mut packets, &mut listener, pace, |_| 0)?;
    let tally = packets.tally;
    let (track, is_sure) = (&recording.track, recording.input.is_sure());
    Reading { track, part, tally, is_empty: listener.samples == 0, is_sure }.judge()?;
    Ok(listener)
}

/// Listens to sound that passes by.
struct Listener {
    form: Form,
    meter: Option<Meter>,
    /// What is not louder is silence, where 1 is full scale.
    threshold: Option<f32>,
    /// From the first sample that is no silence to the one after the last.
    heard: Option<(u64, u64)>,
    /// Samples of each channel.
    samples: u64,
}

impl Listener {
    fn new(form: Form, wanted: Wanted) -> Result<Self, Failure> {
        let meter = match wanted.targets {
            Some(_) => Some(Meter::new(form.sample_rate, form.channels)?),
            None => None,
        };
        let threshold = wanted.silence.map(|silence| factor(silence.threshold_db) as f32);
        Ok(Self { form, meter, threshold, heard: None, samples: 0 })
    }

    fn ms(&self) -> u64 {
        self.samples * 1_000 / u64::from(self.form.sample_rate.max(1))
    }

    /// Takes note of where there is no silence.
    fn look_for_sound(&mut self, frame: &frame::Audio, threshold: f32) {
        let is_loud = |sample: &f32| sample.abs() > threshold;
        let planes = planes(frame);
        let first = planes.iter().filter_map(|plane| plane.iter().position(is_loud)).min();
        let last = planes.iter().filter_map(|plane| plane.iter().rposition(is_loud)).max();
        if let (Some(first), Some(last)) = (first, last) {
            let start = self.heard.map_or(self.samples + first as u64, |(start, _)| start);
            self.heard = Some((start, self.samples + last as u64 + 1));
        }
    }

    fn conclude(
        self,
        part: Part,
        wanted: Wanted,
        go_on: &dyn Fn() -> Result<(), Failure>,
    ) -> Result<Analysis, Failure> {
        let mut notes = Vec::new();
        let kept = match (wanted.silence, self.heard) {
            (Some(silence), Some(heard)) => Some(self.kept(heard, silence)),
            (Some(_), None) => {
                notes.push(note("all_silent", "there is nothing but silence, so all of it was kept"));
                None
            }
            (None, _) => None,
        };
        let loudness = match (self.meter, wanted.targets) {
            (Some(meter), Some(targets)) => {
                let block = meter.block() as u64;
                let mut contour = meter.end()?;
                if let Some((start, end)) = kept {
                    contour.cut((start / block) as usize, end.div_ceil(block) as usize);
                }
                Some(contour.plan(&targets, go_on)?)
            }
            _ => None,
        };
        notes.extend(loudness.as_ref().zip(wanted.targets).and_then(|(planned, targets)| missed(planned, &targets)));
        let part = kept.map(|(start, end)| shortened(part, self.form.unit(), start, end, self.samples));
        Ok(Analysis { part, loudness, notes })
    }

    /// The samples that stay: what was heard, and some of the silence around it.
    fn kept(&self, heard: (u64, u64), silence: SilenceTrim) -> (u64, u64) {
        let keep = u64::from(silence.keep_ms) * u64::from(self.form.sample_rate) / 1_000;
        (heard.0.saturating_sub(keep), (heard.1 + keep).min(self.samples))
    }
}

impl Sink for Listener {
    fn take(&mut self, frame: &mut frame::Audio) -> Result<(), Failure> {
        tame(frame).map_err(|error| failure::libav(error, "listening"))?;
        if let Some(threshold) = self.threshold {
            self.look_for_sound(frame, threshold);
        }
        if let Some(meter) = &mut self.meter {
            meter.take(frame)?;
        }
        self.samples += frame.samples() as u64;
        Ok(())
    }
}

/// The part from one of its samples to another. An end that stays where it is stays as it was asked for.
fn shortened(part: Part, unit: Rational, start: u64, end: u64, samples: u64) -> Part {
    let time = |samples: u64| {
        let samples = i64::try_from(samples).unwrap_or(i64::MAX);
        part.start.saturating_add(samples.rescale(unit, MICROSECONDS))
    };
    Part { start: time(start), end: if end < samples { Some(time(end)) } else { part.end } }
}

/// Targets that contradict one another cannot be met.
fn missed(planned: &Planned, targets: &EbuR128) -> Option<MediaNote> {
    let expected = planned.expected.filter(|_| matches!(planned.change, Change::Dynamic { .. }))?;
    let is_missed = (expected - targets.integrated_lufs).abs() > 0.5;
    is_missed.then(|| {
        let message = format!(
            "{:.1} LUFS cannot be had below {:.1} dBTP without flattening the sound; it will be about {expected:.1} LUFS",
            targets.integrated_lufs, targets.true_peak_dbtp
        );
        note("loudness_missed", &message)
    })
}
