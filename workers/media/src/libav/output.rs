//! An audio file that is being written.

#![expect(unsafe_code, reason = "sets fields that ffmpeg-next does not show")]

use std::{path::Path, ptr};

use ffmpeg_next::{Dictionary, Error, Packet, Rational, codec, ffi, format, format::context};
use fourmi_kinds::Chapter;

use super::{Cover, MILLISECONDS, Tags, dictionary, interrupt::Interrupt};
use crate::Control;

/// The number of the audio stream in every file that we write.
const SOUND: usize = 0;

/// An audio file that is being written.
pub(crate) struct Output<'c> {
    // Dropped first, because it calls `_interrupt`.
    context: context::Output,
    _interrupt: Interrupt<'c>,
    cover: Option<Packet>,
    is_empty: bool,
}

impl<'c> Output<'c> {
    /// Writes over the file at `path`, with the muxer of that short name.
    ///
    /// # Errors
    /// libav's.
    pub(crate) fn create(path: &Path, muxer: &str, control: &'c dyn Control) -> Result<Self, Error> {
        let invalid = Error::Other { errno: ffmpeg_next::error::EINVAL };
        let url = path.to_str().map(|path| format!("file:{path}")).filter(|url| !url.contains('\0')).ok_or(invalid)?;
        let mut context = format::output_as(&url, muxer)?;
        let interrupt = Interrupt::new(control);
        // SAFETY: the context is ours; what the interrupt points to is dropped after it.
        unsafe { (*context.as_mut_ptr()).interrupt_callback = interrupt.callback() };
        Ok(Self { context, _interrupt: interrupt, cover: None, is_empty: true })
    }

    /// Whether codecs must give their header apart from the packets.
    pub(crate) fn wants_global_header(&self) -> bool {
        self.context.format().flags().contains(format::Flags::GLOBAL_HEADER)
    }

    /// Adds the sound; first of all, once.
    ///
    /// # Errors
    /// libav's.
    pub(crate) fn add_sound(
        &mut self,
        how: codec::Parameters,
        time_base: Rational,
        language: Option<&str>,
    ) -> Result<(), Error> {
        let mut stream = self.context.add_stream(ffmpeg_next::encoder::find(codec::Id::None))?;
        stream.set_parameters(how);
        stream.set_time_base(time_base);
        stream.set_metadata(dictionary::write(language.map(|language| ("language", language))));
        // SAFETY: the stream is ours. The tag is the old container's; the new one chooses its own.
        unsafe { (*(*stream.as_mut_ptr()).codecpar).codec_tag = 0 };
        Ok(())
    }

    /// Adds a cover picture.
    ///
    /// # Errors
    /// libav's.
    pub(crate) fn add_cover(&mut self, cover: &Cover) -> Result<(), Error> {
        let mut stream = self.context.add_stream(ffmpeg_next::encoder::find(codec::Id::None))?;
        stream.set_parameters(cover.parameters.clone());
        stream.set_time_base(MILLISECONDS);
        let index = stream.index();
        // SAFETY: the stream is ours.
        unsafe {
            (*(*stream.as_mut_ptr()).codecpar).codec_tag = 0;
            (*stream.as_mut_ptr()).disposition = ffi::AV_DISPOSITION_ATTACHED_PIC;
        }
        let mut packet = cover.packet.clone();
        packet.set_stream(index);
        packet.set_pts(Some(0));
        packet.set_dts(Some(0));
        self.cover = Some(packet);
        Ok(())
    }

    /// Sets the tags and chapters.
    ///
    /// # Errors
    /// libav's.
    pub(crate) fn label(&mut self, tags: &Tags, chapters: &[Chapter]) -> Result<(), Error> {
        self.context.set_metadata(dictionary::write(tags.iter().map(|(name, value)| (name.as_str(), value.as_str()))));
        for (id, chapter) in (1..).zip(chapters) {
            let time = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
            let title = chapter.title.replace('\0', "");
            self.context.add_chapter(id, MILLISECONDS, time(chapter.start_ms), time(chapter.end_ms), title)?;
        }
        Ok(())
    }

    /// Writes what comes before the sound. Everything must have been added.
    ///
    /// # Errors
    /// libav's.
    pub(crate) fn start(&mut self, options: &[(&str, &str)]) -> Result<(), Error> {
        let options: Dictionary<'_> = dictionary::write(options.iter().copied());
        drop(self.context.write_header_with(options)?);
        if let Some(cover) = self.cover.take() {
            cover.write(&mut self.context)?;
        }
        Ok(())
    }

    /// Writes a packet of the sound, whose times are in `time_base`.
    ///
    /// # Errors
    /// libav's.
    pub(crate) fn write(&mut self, mut packet: Packet, time_base: Rational) -> Result<(), Error> {
        let to = self.context.stream(SOUND).map_or(time_base, |stream| stream.time_base());
        packet.rescale_ts(time_base, to);
        packet.set_stream(SOUND);
        packet.set_position(-1);
        // An encoder's last word may hold nothing.
        if packet.size() == 0 && packet.side_data().len() == 0 {
            return Ok(());
        }
        self.is_empty = false;
        // Not interleaved: there is but one stream, and the cover was written first.
        packet.write(&mut self.context).map(drop)
    }

    /// Ends a fragment, if the muxer writes any.
    ///
    /// # Errors
    /// libav's.
    pub(crate) fn end_fragment(&mut self) -> Result<(), Error> {
        // The header comes out first, if it waited for the first packets: then the fragment is still there.
        for _ in 0..2 {
            // SAFETY: the context lives; no packet means that all that was gathered is to be written.
            match unsafe { ffi::av_write_frame(self.context.as_mut_ptr(), ptr::null_mut()) } {
                error if error < 0 => return Err(Error::from(error)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes what comes after the sound.
    ///
    /// # Errors
    /// libav's.
    pub(crate) fn finish(mut self) -> Result<(), Error> {
        self.context.write_trailer()?;
        // SAFETY: the context lives, and so does its I/O context.
        match unsafe { (*self.context.as_ptr()).pb.as_ref() }.map_or(0, |io| io.error) {
            error if error < 0 => Err(Error::from(error)),
            _ => Ok(()),
        }
    }

    /// Whether no sound was written.
    pub(crate) fn is_empty(&self) -> bool {
        self.is_empty
    }

    /// How much was written, in bytes.
    pub(crate) fn position(&self) -> u64 {
        // SAFETY: the context lives, and so does its I/O context; both pointers are into one buffer.
        let position = unsafe {
            (*self.context.as_ptr()).pb.as_ref().map_or(0, |io| io.pos + io.buf_ptr.offset_from(io.buffer) as i64)
        };
        u64::try_from(position).unwrap_or(0)
    }
}

/// Whether a container can hold a codec.
pub(crate) fn can_hold(muxer: &str, codec: codec::Id) -> bool {
    let Ok(muxer) = std::ffi::CString::new(muxer) else { return false };
    // SAFETY: the name ends with NUL; both calls only read constants of libav's.
    unsafe {
        let format = ffi::av_guess_format(muxer.as_ptr(), ptr::null(), ptr::null());
        !format.is_null() && ffi::avformat_query_codec(format, codec.into(), ffi::FF_COMPLIANCE_NORMAL) == 1
    }
}
