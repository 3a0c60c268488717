//! Chains of audio filters.

use ffmpeg_next::{Error, error::EAGAIN, filter, format::Sample, frame};

const AGAIN: Error = Error::Other { errno: EAGAIN };

/// The form of sound that goes into a chain. Its times are in samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) format: Sample,
    pub(crate) rate: u32,
    pub(crate) channels: u16,
    /// Which channels, as libav's mask; 0 if nobody knows.
    pub(crate) layout: u64,
}

impl Shape {
    /// The form of a frame.
    pub(crate) fn of(frame: &frame::Audio) -> Self {
        let (channels, rate) = (frame.channels(), frame.rate());
        let layout = match frame.channel_layout().bits() {
            0 => ffmpeg_next::ChannelLayout::default(i32::from(channels)).bits(),
            layout => layout,
        };
        Self { format: frame.format(), rate, channels, layout }
    }

    fn source(&self) -> String {
        let Self { format, rate, channels, layout } = self;
        let layout = if *layout == 0 { format!("channels={channels}") } else { format!("channel_layout=0x{layout:x}") };
        format!("time_base=1/{rate}:sample_rate={rate}:sample_fmt={}:{layout}", format.name())
    }
}

/// Filters that sound passes one after the other.
pub(crate) struct Chain {
    source: filter::Context,
    sink: filter::Context,
    // Owns the two above.
    _graph: filter::Graph,
}

impl Chain {
    /// A chain for sound of one form; `filters` in libav's words, such as `atrim=start_pts=0,anull`.
    ///
    /// # Errors
    /// libav's.
    pub(crate) fn new(shape: &Shape, filters: &str) -> Result<Self, Error> {
        let find = |name| filter::find(name).ok_or(Error::FilterNotFound);
        let mut graph = filter::Graph::new();
        let source = graph.add(&find("abuffer")?, "in", &shape.source())?;
        let sink = graph.add(&find("abuffersink")?, "out", "")?;
        graph.output("in", 0)?.input("out", 0)?.parse(filters)?;
        graph.validate()?;
        Ok(Self { source, sink, _graph: graph })
    }

    /// Makes it give out frames of so many samples, the last excepted.
    pub(crate) fn set_frame_size(&mut self, samples: u32) {
        self.sink.sink().set_frame_size(samples);
    }

    /// Takes sound in, and leaves the frame empty. Sound after the end of an `atrim` is ignored.
    ///
    /// # Errors
    /// libav's.
    pub(crate) fn send(&mut self, frame: &frame::Audio) -> Result<(), Error> {
        match self.source.source().add(frame) {
            Ok(()) | Err(Error::Eof) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Says that no sound follows.
    ///
    /// # Errors
    /// libav's.
    pub(crate) fn end(&mut self) -> Result<(), Error> {
        match self.source.source().flush() {
            Ok(()) | Err(Error::Eof) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Gives sound out; false when it wants more or is at its end.
    ///
    /// # Errors
    /// libav's.
    pub(crate) fn receive(&mut self, frame: &mut frame::Audio) -> Result<bool, Error> {
        match self.sink.sink().frame(frame) {
            Ok(()) => Ok(true),
            Err(Error::Eof | AGAIN) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
