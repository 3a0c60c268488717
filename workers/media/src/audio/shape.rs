//! Lays decoded sound out in time, and turns it into the form that is wanted.
//!
//! Sound is laid out by counting samples. Time stamps only say where it starts, and where it goes on after a gap: their
//! rounding and jitter leave no trace. (It is what the filter `aresample=async=1` does, but that one gathers a long gap in
//! memory before it lets go of it.)

use ffmpeg_next::{ChannelLayout, Error, Rational, Rescale, format::Sample, format::sample::Type, frame};
use fourmi_model::Failure;

use super::track::Part;
use crate::{
    failure,
    libav::{Chain, MICROSECONDS, Shape, silence},
    progress::Pace,
};

/// Sound that comes later or earlier than this, in milliseconds, is not just late or early.
const TOLERANCE_MS: i64 = 100;

/// More changes of the sample rate or channels than this are noise that looks like sound.
const MAX_SHAPES: u32 = 10_000;

/// The form into which sound is turned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) sample_format: Sample,
    pub(super) sample_rate: u32,
    /// 1 or 2.
    pub(super) channels: u32,
}

impl Form {
    /// The same in planar floats, which hold what is louder than full scale and can be worked on.
    pub(super) fn in_floats(self) -> Self {
        Self { sample_format: Sample::F32(Type::Planar), ..self }
    }

    pub(super) fn layout(self) -> ChannelLayout {
        if self.channels == 1 { ChannelLayout::MONO } else { ChannelLayout::STEREO }
    }

    pub(super) fn shape(self) -> Shape {
        Shape {
            format: self.sample_format,
            rate: self.sample_rate,
            channels: if self.channels == 1 { 1 } else { 2 },
            layout: self.layout().bits(),
        }
    }

    /// The filter that turns any sound into this form.
    pub(super) fn filter(self) -> String {
        let Self { sample_format, sample_rate, channels } = self;
        let layout = if channels == 1 { "mono" } else { "stereo" };
        let format = sample_format.name();
        format!("aformat=sample_fmts={format}:sample_rates={sample_rate}:channel_layouts={layout}")
    }

    /// The unit of times that count samples.
    pub(super) fn unit(self) -> Rational {
        unit(self.sample_rate)
    }
}

/// Where shaped sound goes.
pub(super) trait Sink {
    /// Takes sound, and may leave the frame empty.
    ///
    /// # Errors
    /// Its own.
    fn take(&mut self, frame: &mut frame::Audio) -> Result<(), Failure>;
}

/// Lays decoded sound out in time, and turns it into a form.
pub(super) struct Shaper {
    part: Part,
    /// The unit of the times of decoded sound.
    time_base: Rational,
    form: Form,
    current: Option<Current>,
    /// Where the next sample belongs; what came before is out of the decoder's hands.
    started: bool,
    shapes: u32,
    shaped: frame::Audio,
}

/// What is known while sound keeps its shape. Times count its samples from the start of the recording.
struct Current {
    shape: Shape,
    chain: Chain,
    next: i64,
    end: Option<i64>,
}

impl Current {
    fn unit(&self) -> Rational {
        unit(self.shape.rate)
    }
}

impl Shaper {
    pub(super) fn new(part: Part, time_base: Rational, form: Form) -> Self {
        let shaped = frame::Audio::empty();
        Self { part, time_base, form, current: None, started: false, shapes: 0, shaped }
    }

    /// Whether all of the part was taken.
    pub(super) fn is_past_end(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.end.is_some_and(|end| current.next >= end))
    }

    /// How much was taken, in microseconds from the start of the recording.
    pub(super) fn position(&self) -> i64 {
        self.current.as_ref().map_or(self.part.start, |current| current.next.rescale(current.unit(), MICROSECONDS))
    }

    /// Takes a frame, and leaves it empty; `sink` gets what is due.
    ///
    /// # Errors
    /// `cancelled`, `corrupt_media`, and what the sink and libav say.
    pub(super) fn take(
        &mut self,
        frame: &mut frame::Audio,
        sink: &mut dyn Sink,
        pace: &Pace<'_>,
    ) -> Result<(), Failure> {
        let samples = frame.samples() as i64;
        if samples == 0 || frame.rate() == 0 || frame.channels() == 0 {
            return Ok(());
        }
        self.adopt(Shape::of(frame), sink)?;
        let Some(current) = &mut self.current else { return Ok(()) };

        let time = frame.timestamp().map_or(current.next, |time| time.rescale(self.time_base, current.unit()));
        let gap = time.saturating_sub(current.next);
        let tolerance = TOLERANCE_MS * i64::from(current.shape.rate) / 1_000;
        let is_warm_up = !self.started && time.saturating_add(samples) <= current.next;
        let is_repeat = self.started && gap < -tolerance;
        if is_warm_up || is_repeat {
            return Ok(());
        }
        let start = if self.started && gap <= tolerance { current.next } else { time };
        if start > current.next {
            current.rest(start - current.next, frame, &mut self.shaped, sink, pace)?;
        }
        self.started = true;
        frame.set_pts(Some(start));
        current.next = start.saturating_add(samples);
        current.play(frame, &mut self.shaped, sink)
    }

    /// Gives out what is still on its way.
    ///
    /// # Errors
    /// What the sink and libav say.
    pub(super) fn end(&mut self, sink: &mut dyn Sink) -> Result<(), Failure> {
        let Some(current) = &mut self.current else { return Ok(()) };
        current.chain.end().map_err(shaping)?;
        current.drain(&mut self.shaped, sink)
    }

    /// Prepares for sound of a shape; recordings that were glued together change it on the way.
    fn adopt(&mut self, shape: Shape, sink: &mut dyn Sink) -> Result<(), Failure> {
        if self.current.as_ref().is_some_and(|current| current.shape == shape) {
            return Ok(());
        }
        self.end(sink)?;
        self.shapes += 1;
        if self.shapes > MAX_SHAPES {
            return Err(failure::corrupt("its sample rate and channels change all the time"));
        }
        let in_samples = |time: i64| time.rescale(MICROSECONDS, unit(shape.rate));
        let (start, end) = (in_samples(self.part.start), self.part.end.map(in_samples));
        let next = self.current.as_ref().map_or(start, |old| old.next.rescale(old.unit(), unit(shape.rate)));
        let chain = Chain::new(&shape, &filters(&shape, self.form, start, end)).or_else(|_| {
            let of_unknown_places = Shape { layout: 0, ..shape };
            Chain::new(&of_unknown_places, &filters(&of_unknown_places, self.form, start, end))
        });
        let chain = chain.map_err(shaping)?;
        self.current = Some(Current { shape, chain, next, end });
        Ok(())
    }
}

impl Current {
    /// Plays silence for a gap, as far as the part goes.
    fn rest(
        &mut self,
        gap: i64,
        like: &frame::Audio,
        shaped: &mut frame::Audio,
        sink: &mut dyn Sink,
        pace: &Pace<'_>,
    ) -> Result<(), Failure> {
        let until = self.next.saturating_add(gap).min(self.end.unwrap_or(i64::MAX));
        while self.next < until {
            pace.go_on()?;
            // In small steps, so that memory stays flat and a cancel is heard.
            let samples = (until - self.next).min(i64::from(self.shape.rate));
            let mut frame = silence(like, samples as usize).map_err(shaping)?;
            frame.set_pts(Some(self.next));
            self.next += samples;
            self.play(&frame, shaped, sink)?;
        }
        Ok(())
    }

    fn play(&mut self, frame: &frame::Audio, shaped: &mut frame::Audio, sink: &mut dyn Sink) -> Result<(), Failure> {
        self.chain.send(frame).map_err(shaping)?;
        self.drain(shaped, sink)
    }

    fn drain(&mut self, shaped: &mut frame::Audio, sink: &mut dyn Sink) -> Result<(), Failure> {
        while self.chain.receive(shaped).map_err(shaping)? {
            sink.take(shaped)?;
        }
        Ok(())
    }
}

/// Cuts the part out, then mixes and resamples.
fn filters(shape: &Shape, form: Form, start: i64, end: Option<i64>) -> String {
    // Nobody can tell how to mix channels of unknown places: the first two are left and right by custom.
    let pan = match (shape.layout, form.channels) {
        (0, 1) => "pan=mono|c0=0.5*c0+0.5*c1,",
        (0, _) => "pan=stereo|c0=c0|c1=c1,",
        _ => "",
    };
    let end = end.map_or_else(String::new, |end| format!(":end_pts={end}"));
    format!("{pan}atrim=start_pts={start}{end},{}", form.filter())
}

fn unit(rate: u32) -> Rational {
    Rational(1, i32::try_from(rate).unwrap_or(i32::MAX))
}

/// The other side is always the same: what cannot be mixed or resampled is to blame itself.
fn shaping(error: Error) -> Failure {
    if failure::is_out_of_memory(error) {
        return failure::libav(error, "mixing and resampling");
    }
    failure::corrupt(&format!("its sound has a form that cannot be mixed or resampled ({error})"))
}
