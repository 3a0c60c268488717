//! Changes the loudness of sound on its way to the encoder.
//!
//! ```text
//! shaped sound in floats → the change that was planned, or `loudnorm` → meter → the encoder's form → sink
//! ```

use ffmpeg_next::{Error, frame};
use fourmi_kinds::{EbuR128, LoudnessReport, NormalizationType};
use fourmi_model::Failure;

use super::shape::{Form, Sink};
use crate::{
    failure,
    libav::{Chain, planes_mut, tame},
    loudness::{Change, Gain, Measured, Meter, Planned},
};

/// How loudness is to be changed.
#[derive(Clone, Copy)]
pub(super) enum Levelling<'a> {
    /// As the first pass found out.
    Planned(&'a Planned),
    /// Without a first pass: FFmpeg's `loudnorm` listens some seconds ahead.
    OnePass(EbuR128),
}

impl Levelling<'_> {
    /// Whether anybody would hear it.
    pub(super) fn is_heard(self) -> bool {
        match self {
            Self::Planned(planned) => !planned.is_idle(),
            Self::OnePass(_) => true,
        }
    }

    /// The report, if the packets are copied because nobody would hear it.
    pub(super) fn report_of_copy(self) -> Option<LoudnessReport> {
        match self {
            Self::Planned(planned) => Some(planned.report(None, true)),
            Self::OnePass(_) => None,
        }
    }
}

/// Changes the loudness of sound.
pub(super) struct Level<'a> {
    how: Levelling<'a>,
    tool: Tool,
    /// Listens to what one factor does not explain.
    meter: Option<Meter>,
    /// Turns floats into the encoder's form.
    finish: Chain,
    form: Form,
    finished: frame::Audio,
    /// Samples of each channel that were taken.
    samples: i64,
}

enum Tool {
    Gain(Box<Gain>),
    Loudnorm(Chain),
}

impl<'a> Level<'a> {
    /// Gives sound out in the form `to`.
    ///
    /// # Errors
    /// What libav says.
    pub(super) fn new(how: Levelling<'a>, to: Form) -> Result<Self, Failure> {
        let form = to.in_floats();
        let (tool, is_measured) = match how {
            Levelling::Planned(planned) => {
                let gain = Gain::new(&planned.change, form.sample_rate, form.channels);
                (Tool::Gain(Box::new(gain)), matches!(planned.change, Change::Dynamic { .. }))
            }
            Levelling::OnePass(targets) => (Tool::Loudnorm(loudnorm(&targets, form).map_err(levelling)?), true),
        };
        let delay = if let Tool::Gain(gain) = &tool { gain.delay() } else { 0 };
        let finish = format!("atrim=start_sample={delay},{}", to.filter());
        Ok(Self {
            how,
            tool,
            meter: if is_measured { Some(Meter::new(form.sample_rate, form.channels)?) } else { None },
            finish: Chain::new(&form.shape(), &finish).map_err(levelling)?,
            form,
            finished: frame::Audio::empty(),
            samples: 0,
        })
    }

    /// The form in which it takes sound.
    pub(super) fn form(&self) -> Form {
        self.form
    }

    /// Takes sound, and leaves the frame empty.
    ///
    /// # Errors
    /// What the sink and libav say.
    pub(super) fn take(&mut self, frame: &mut frame::Audio, sink: &mut dyn Sink) -> Result<(), Failure> {
        tame(frame).map_err(levelling)?;
        frame.set_pts(Some(self.samples));
        self.samples += frame.samples() as i64;
        match &mut self.tool {
            Tool::Gain(gain) => {
                gain.change(frame);
                self.give(frame, sink)
            }
            Tool::Loudnorm(chain) => {
                chain.send(frame).map_err(levelling)?;
                self.drain(sink)
            }
        }
    }

    /// Gives out what is still on its way; says what was measured.
    ///
    /// # Errors
    /// What the sink and libav say.
    pub(super) fn end(mut self, sink: &mut dyn Sink) -> Result<LoudnessReport, Failure> {
        match &mut self.tool {
            Tool::Gain(gain) => {
                let mut rest = frame::Audio::new(self.form.sample_format, gain.delay(), self.form.layout());
                rest.set_rate(self.form.sample_rate);
                planes_mut(&mut rest).into_iter().for_each(|plane| plane.fill(0.0));
                if rest.samples() > 0 {
                    self.take(&mut rest, sink)?;
                }
            }
            Tool::Loudnorm(chain) => {
                chain.end().map_err(levelling)?;
                self.drain(sink)?;
            }
        }
        self.finish.end().map_err(levelling)?;
        self.finish(sink)?;
        let after = match self.meter.take() {
            Some(meter) => Some(meter.end()?.measured()),
            None => None,
        };
        Ok(match self.how {
            Levelling::Planned(planned) => planned.report(after.as_ref(), false),
            Levelling::OnePass(_) => one_pass(after.as_ref()),
        })
    }

    fn drain(&mut self, sink: &mut dyn Sink) -> Result<(), Failure> {
        let mut levelled = frame::Audio::empty();
        while let Tool::Loudnorm(chain) = &mut self.tool
            && chain.receive(&mut levelled).map_err(levelling)?
        {
            self.give(&mut levelled, sink)?;
        }
        Ok(())
    }

    fn give(&mut self, frame: &mut frame::Audio, sink: &mut dyn Sink) -> Result<(), Failure> {
        if let Some(meter) = &mut self.meter {
            meter.take(frame)?;
        }
        self.finish.send(frame).map_err(levelling)?;
        self.finish(sink)
    }

    fn finish(&mut self, sink: &mut dyn Sink) -> Result<(), Failure> {
        while self.finish.receive(&mut self.finished).map_err(levelling)? {
            sink.take(&mut self.finished)?;
        }
        Ok(())
    }
}

/// `loudnorm` gives out 192,000 samples a second: they are always brought back.
fn loudnorm(targets: &EbuR128, form: Form) -> Result<Chain, Error> {
    let EbuR128 { integrated_lufs, true_peak_dbtp, range_lu, .. } = targets;
    let filter = format!("loudnorm=I={integrated_lufs}:TP={true_peak_dbtp}:LRA={range_lu}");
    Chain::new(&form.shape(), &format!("{filter},{}", form.filter()))
}

fn one_pass(after: Option<&Measured>) -> LoudnessReport {
    LoudnessReport {
        input_i: None,
        input_tp: None,
        input_lra: None,
        input_thresh: None,
        output_i: after.and_then(|after| after.integrated),
        output_tp: after.and_then(|after| after.true_peak),
        normalization_type: NormalizationType::Dynamic,
        gain_db: None,
    }
}

fn levelling(error: Error) -> Failure {
    failure::libav(error, "changing the loudness")
}
