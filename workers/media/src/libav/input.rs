//! A recording that is being read.

#![expect(
    unsafe_code,
    reason = "opens with a chosen demuxer and an interrupt, which ffmpeg-next does not offer together"
)]

use std::{ffi::CString, path::Path, ptr};

use ffmpeg_next::{
    Error, Packet, codec, ffi,
    format::context,
    media,
    packet::{Mut, side_data},
};
use fourmi_kinds::Chapter;
use fourmi_model::Failure;

use super::{
    MILLISECONDS, Stream, Tags,
    detect::{Demuxer, detect},
    dictionary,
    interrupt::Interrupt,
    log, stream,
};
use crate::{Control, failure, structure};

/// As many chapters as are read.
const MAX_CHAPTERS: usize = 2_000;

/// Longer chapter titles are cut.
const MAX_TITLE_CHARS: usize = 500;

/// After so many errors in a row without a packet, a demuxer is taken to turn in circles.
const MAX_ERRORS_IN_A_ROW: u32 = 10_000;

/// A recording that is being read, from its own file alone.
///
/// What blocks in it asks `control` whether to go on.
pub(crate) struct Input<'c> {
    // Dropped first, because it calls `_interrupt`.
    context: context::Input,
    _interrupt: Interrupt<'c>,
    demuxer: Demuxer,
    errors_in_a_row: u32,
    /// How many times as long as it is the file claims to be, if it was cut off.
    pub(crate) claimed_excess: Option<f64>,
}

/// What reading gave.
pub(crate) enum Read {
    /// A packet of a stream that was not left out.
    Packet(Packet),
    /// Something that could not be read; what follows may be fine.
    Damaged,
    /// The end of the file.
    End,
}

/// A picture that is attached to a recording.
pub(crate) struct Cover {
    pub(super) parameters: codec::Parameters,
    pub(super) packet: Packet,
}

impl<'c> Input<'c> {
    /// Opens the file at `path` and learns what streams it has.
    ///
    /// # Errors
    /// `source_gone`, `empty_file`, `not_media`, `truncated_media`, `corrupt_media`, and what [`failure::libav`] gives.
    pub(crate) fn open(path: &Path, control: &'c dyn Control) -> Result<Self, Failure> {
        let demuxer = detect(path)?;
        let interrupt = Interrupt::new(control);
        let context = open(path, demuxer, &interrupt).map_err(|error| unopened(error, demuxer))?;
        let claimed_excess = structure::claimed_excess(path);
        Ok(Self { context, _interrupt: interrupt, demuxer, errors_in_a_row: 0, claimed_excess })
    }

    /// The container's short names.
    pub(crate) fn container(&self) -> String {
        self.demuxer.names()
    }

    /// Whether libav was sure of what the file is.
    pub(crate) fn is_sure(&self) -> bool {
        self.demuxer.sure
    }

    /// Whether the container is one whose time stamps may jump, such as a broadcast stream.
    pub(crate) fn may_jump(&self) -> bool {
        // SAFETY: a demuxer is a constant of libav's.
        unsafe { (*self.demuxer.as_ptr()).flags & ffi::AVFMT_TS_DISCONT != 0 }
    }

    /// Whether going to a time lands at packets whose time stamps are right, rather than estimated by the bit rate.
    pub(crate) fn seeks_exactly(&self) -> bool {
        ["mov", "matroska", "ogg", "flac", "wav", "w64", "aiff", "caf", "avi"].iter().any(|name| self.demuxer.is(name))
    }

    /// The streams.
    pub(crate) fn streams(&self) -> Vec<Stream> {
        // SAFETY: the context lives, and nothing reads from it meanwhile.
        self.context.streams().map(|stream| unsafe { stream::read(&stream) }).collect()
    }

    /// The number of the audio stream that a player would choose.
    pub(crate) fn best_audio(&self) -> Option<usize> {
        self.context.streams().best(media::Type::Audio).map(|stream| stream.index())
    }

    /// How the packets of a stream are encoded.
    pub(crate) fn parameters(&self, stream: usize) -> codec::Parameters {
        // A copy: one that is shared would keep the context alive for longer than `_interrupt`.
        self.context.stream(stream).map(|stream| stream.parameters().clone()).unwrap_or_default()
    }

    /// Whether a stream is encrypted, as far as the container says it.
    pub(crate) fn is_encrypted(&self, stream: usize) -> bool {
        let encrypted = |data: codec::packet::SideData<'_>| data.kind() == side_data::Type::EncryptionInitInfo;
        self.context.stream(stream).is_some_and(|stream| stream.side_data().any(encrypted))
    }

    /// Where the recording starts on its own clock, in microseconds.
    pub(crate) fn origin(&self) -> i64 {
        // SAFETY: the context lives.
        let start = unsafe { (*self.context.as_ptr()).start_time };
        if start == ffi::AV_NOPTS_VALUE { 0 } else { start }
    }

    /// The length.
    pub(crate) fn duration(&self) -> stream::Duration {
        // SAFETY: the context lives.
        let method = unsafe { (*self.context.as_ptr()).duration_estimation_method };
        match (self.context.duration(), method) {
            (..=0, _) => stream::Duration::Unknown,
            (length, ffi::AVDurationEstimationMethod::AVFMT_DURATION_FROM_BITRATE) => {
                stream::Duration::Estimated(length)
            }
            (length, _) => stream::Duration::Said(length),
        }
    }

    /// Mean bits a second.
    pub(crate) fn bit_rate(&self) -> Option<u64> {
        u64::try_from(self.context.bit_rate()).ok().filter(|&rate| rate > 0)
    }

    /// The tags of the container.
    pub(crate) fn tags(&self) -> Tags {
        // SAFETY: the context lives, and nothing reads from it meanwhile.
        unsafe { dictionary::read((*self.context.as_ptr()).metadata) }
    }

    /// The chapters, in times from the start of the recording.
    pub(crate) fn chapters(&self) -> Vec<Chapter> {
        let origin_ms = if self.has_clock() { self.origin() / 1_000 } else { 0 };
        self.context
            .chapters()
            .take(MAX_CHAPTERS)
            .filter_map(|chapter| {
                use ffmpeg_next::Rescale;
                let ms = |time: i64| time.rescale(chapter.time_base(), MILLISECONDS).saturating_sub(origin_ms).max(0);
                // SAFETY: the context lives, and nothing reads from it meanwhile.
                let title =
                    unsafe { dictionary::read((*chapter.as_ptr()).metadata) }.remove("title").unwrap_or_default();
                let (start, end) = (ms(chapter.start()), ms(chapter.end()));
                (start < end).then(|| Chapter {
                    start_ms: start.unsigned_abs(),
                    end_ms: end.unsigned_abs(),
                    title: title.chars().take(MAX_TITLE_CHARS).collect(),
                })
            })
            .collect()
    }

    /// Whether it is Matroska or WebM.
    pub(crate) fn is_matroska(&self) -> bool {
        self.demuxer.is("matroska")
    }

    /// Whether its chapters are on the same clock as its packets. Otherwise they are in comments, which count from the first
    /// sample that is heard, whereas packets begin with the encoder's delay.
    fn has_clock(&self) -> bool {
        ["matroska", "mov", "asf", "nut", "wtv"].iter().any(|name| self.demuxer.is(name))
    }

    /// The first picture that is attached to the recording.
    pub(crate) fn cover(&self) -> Option<Cover> {
        let stream = self.streams().into_iter().find(|stream| stream.cover)?;
        let mut packet = Packet::empty();
        // SAFETY: the context lives; a failure leaves the packet empty.
        let size = unsafe {
            let attached = &raw const (*self.context.stream(stream.index)?.as_ptr()).attached_pic;
            if ffi::av_packet_ref(packet.as_mut_ptr(), attached) < 0 { 0 } else { packet.size() }
        };
        (size > 0).then(|| Cover { parameters: self.parameters(stream.index), packet })
    }

    /// Leaves out every stream but one, so that the others cost nothing.
    pub(crate) fn only(&mut self, stream: usize) {
        for mut other in self.context.streams_mut() {
            if other.index() != stream {
                // SAFETY: the stream lives as long as the context.
                unsafe { (*other.as_mut_ptr()).discard = ffi::AVDiscard::AVDISCARD_ALL };
            }
        }
    }

    /// Goes to a place before `time`, in microseconds from the start of the recording. That it cannot is no harm: what
    /// comes before is then read over.
    pub(crate) fn seek_before(&mut self, time: i64) {
        let time = time.saturating_add(self.origin());
        if self.context.seek(time, ..time).is_err() {
            let _ = self.context.seek(self.origin(), ..);
        }
    }

    /// The next packet.
    ///
    /// # Errors
    /// What [`failure::libav`] gives.
    pub(crate) fn read(&mut self) -> Result<Read, Failure> {
        // A new packet each time: libav would not free what the old one holds.
        let mut packet = Packet::empty();
        match packet.read(&mut self.context) {
            Ok(()) => {
                self.errors_in_a_row = 0;
                return Ok(Read::Packet(packet));
            }
            Err(Error::Eof) => return Ok(Read::End),
            Err(error @ Error::Exit) => return Err(failure::libav(error, "reading the recording")),
            Err(error) if failure::is_out_of_memory(error) => {
                return Err(failure::libav(error, "reading the recording"));
            }
            // Bad data, or a disk that cannot read this place: both are judged by what is missing in the end.
            Err(_) => {}
        }
        self.errors_in_a_row += 1;
        Ok(if self.errors_in_a_row > MAX_ERRORS_IN_A_ROW || self.has_io_error() { Read::End } else { Read::Damaged })
    }

    /// How much of the file was read, in bytes.
    pub(crate) fn position(&self) -> u64 {
        // SAFETY: the context lives; its I/O context is null or lives too.
        let position = unsafe { (*self.context.as_ptr()).pb.as_ref() }.map_or(0, |io| io.pos);
        u64::try_from(position).unwrap_or(0)
    }

    /// An I/O error stays: every further read would give it again.
    fn has_io_error(&self) -> bool {
        // SAFETY: the context lives; its I/O context is null or lives too.
        unsafe { (*self.context.as_ptr()).pb.as_ref() }.is_some_and(|io| io.error != 0)
    }
}

fn open(path: &Path, demuxer: Demuxer, interrupt: &Interrupt<'_>) -> Result<context::Input, Error> {
    let invalid = Error::Other { errno: ffmpeg_next::error::EINVAL };
    let url = path.to_str().and_then(|path| CString::new(format!("file:{path}")).ok()).ok_or(invalid)?;
    // SAFETY: allocates; null is handled.
    let mut context = unsafe { ffi::avformat_alloc_context() };
    if context.is_null() {
        return Err(Error::Other { errno: ffmpeg_next::error::ENOMEM });
    }
    // Whatever the demuxer does, it opens nothing but files, and with no other demuxer.
    let names = demuxer.names();
    let options = dictionary::write([("protocol_whitelist", "file"), ("format_whitelist", &names)]);
    // SAFETY: the context is ours; `avformat_open_input` frees it on failure and gives back the options that nobody read.
    // What `interrupt` points to outlives the context: the caller keeps both.
    unsafe {
        (*context).interrupt_callback = interrupt.callback();
        let mut options = options.disown();
        let opened = ffi::avformat_open_input(&raw mut context, url.as_ptr(), demuxer.as_ptr(), &raw mut options);
        drop(ffmpeg_next::Dictionary::own(options));
        if opened < 0 {
            return Err(Error::from(opened));
        }
        let context = context::Input::wrap(context);
        match ffi::avformat_find_stream_info(context.as_ptr().cast_mut(), ptr::null_mut()) {
            error if error < 0 => Err(Error::from(error)),
            _ => Ok(context),
        }
    }
}

fn unopened(error: Error, demuxer: Demuxer) -> Failure {
    // Anything else is what demuxers say of bad data, an I/O error at its end included.
    if error == Error::Exit || failure::is_out_of_memory(error) {
        return failure::libav(error, "opening the recording");
    }
    if log::mentions("moov atom not found") && demuxer.sure {
        return failure::truncated(
            "the index at its end is missing, so it was probably not downloaded or uploaded whole",
        );
    }
    let names = demuxer.names();
    let name = names.split(',').next().unwrap_or_default();
    if demuxer.sure {
        return failure::corrupt(&format!("it looks like {name} but could not be opened"));
    }
    failure::not_media(&format!("it has a likeness to {name}, no more"))
}
