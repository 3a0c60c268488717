//! Decoding, scaling and encoding pictures.

#![expect(unsafe_code, reason = "sets fields that ffmpeg-next does not show")]

use ffmpeg_next::{
    Error, Packet, Rational, codec, codec::context::Context, ffi, format::Pixel, frame, software::scaling,
};

use super::{Cover, dictionary};

/// Pictures of more pixels are refused: a file of a few kilobytes can claim gigabytes.
pub(crate) const MAX_PIXELS: i64 = 32 * 1024 * 1024;

/// What is darker on the whole, of 255, is black.
const DARK: u64 = 20;

/// A picture that was decoded.
pub(crate) struct Picture(frame::Video);

/// How a picture is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PictureFormat {
    Jpeg,
    Webp,
}

/// A picture that was encoded.
pub(crate) struct EncodedPicture {
    pub(crate) bytes: Vec<u8>,
    pub(crate) width: u32,
    pub(crate) height: u32,
}

/// Turns packets into pictures.
pub(crate) struct PictureDecoder(codec::decoder::Video);

impl PictureDecoder {
    /// A decoder for the packets of a stream.
    ///
    /// # Errors
    /// libav's.
    pub(crate) fn open(parameters: codec::Parameters) -> Result<Self, Error> {
        Self::start(Context::from_parameters(parameters)?)
    }

    /// A decoder for pictures of that sort.
    ///
    /// # Errors
    /// libav's.
    pub(crate) fn of(codec: codec::Id) -> Result<Self, Error> {
        let codec = codec::decoder::find(codec).ok_or(Error::DecoderNotFound)?;
        Self::start(Context::new_with_codec(codec))
    }

    fn start(mut context: Context) -> Result<Self, Error> {
        // SAFETY: the context is ours and not yet open.
        unsafe { (*context.as_mut_ptr()).max_pixels = MAX_PIXELS };
        context.decoder().video().map(Self)
    }

    /// Takes a packet; none at the end. Gives a picture, if there is one by now.
    ///
    /// # Errors
    /// libav's; odd ones, too, on bad data.
    pub(crate) fn decode(&mut self, packet: Option<&Packet>) -> Result<Option<Picture>, Error> {
        match packet {
            Some(packet) => self.0.send_packet(packet)?,
            None => self.0.send_eof()?,
        }
        let mut frame = frame::Video::empty();
        match self.0.receive_frame(&mut frame) {
            Ok(()) if frame.width() > 0 && frame.height() > 0 => Ok(Some(Picture(frame))),
            Ok(()) | Err(Error::Eof | Error::Other { errno: ffmpeg_next::error::EAGAIN }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The picture that one packet holds.
    ///
    /// # Errors
    /// libav's; odd ones, too, on bad data.
    pub(crate) fn decode_one(mut self, packet: &Packet) -> Result<Picture, Error> {
        if let Some(picture) = self.decode(Some(packet))? {
            return Ok(picture);
        }
        self.decode(None)?.ok_or(Error::InvalidData)
    }
}

impl Picture {
    /// Whether there is next to nothing to be seen.
    pub(crate) fn is_dark(&self) -> bool {
        let Ok(small) = self.scaled(64, 36, Pixel::GRAY8) else { return false };
        let (width, stride) = (small.width() as usize, small.stride(0));
        let rows = small.data(0).chunks(stride).take(small.height() as usize);
        let (sum, count) = rows
            .flat_map(|row| row.iter().take(width))
            .fold((0, 0), |(sum, count), &pixel| (sum + u64::from(pixel), count + 1_u64));
        sum < DARK * count
    }

    /// The picture with a longest side of so many pixels, or its own if that is less.
    ///
    /// # Errors
    /// libav's.
    pub(crate) fn encode(&self, format: PictureFormat, longest: u32) -> Result<EncodedPicture, Error> {
        let (width, height) = self.fitted(longest);
        let (name, pixel, options): (_, _, &[(&str, &str)]) = match format {
            PictureFormat::Jpeg => ("mjpeg", Pixel::YUVJ420P, &[("qmin", "3"), ("qmax", "3")]),
            PictureFormat::Webp => ("libwebp", Pixel::YUV420P, &[("quality", "80")]),
        };
        let mut frame = self.scaled(width, height, pixel)?;
        frame.set_pts(Some(0));
        let codec = ffmpeg_next::encoder::find_by_name(name).ok_or(Error::EncoderNotFound)?;
        let mut encoder = Context::new_with_codec(codec).encoder().video()?;
        encoder.set_width(width);
        encoder.set_height(height);
        encoder.set_format(pixel);
        encoder.set_time_base(Rational(1, 25));
        let mut encoder = encoder.open_as_with(codec, dictionary::write(options.iter().copied()))?;
        encoder.send_frame(&frame)?;
        encoder.send_eof()?;
        let mut packet = Packet::empty();
        encoder.receive_packet(&mut packet)?;
        Ok(EncodedPicture { bytes: packet.data().unwrap_or_default().to_vec(), width, height })
    }

    /// Width and height in the file.
    pub(crate) fn stored_size(&self) -> (u32, u32) {
        (self.0.width(), self.0.height())
    }

    /// Width and height, the pixels' own shape taken into account.
    fn size(&self) -> (f64, f64) {
        let aspect = self.0.aspect_ratio();
        let stretch = if aspect.0 > 0 && aspect.1 > 0 { f64::from(aspect).clamp(0.1, 10.0) } else { 1.0 };
        (f64::from(self.0.width()) * stretch, f64::from(self.0.height()))
    }

    fn fitted(&self, longest: u32) -> (u32, u32) {
        let (width, height) = self.size();
        let scale = (f64::from(longest) / width.max(height)).min(1.0);
        let side = |side: f64| ((side * scale).round() as u32).max(1);
        (side(width), side(height))
    }

    fn scaled(&self, width: u32, height: u32, pixel: Pixel) -> Result<frame::Video, Error> {
        let (from, flags) = (&self.0, scaling::Flags::AREA);
        let mut scaler =
            scaling::Context::get(from.format(), from.width(), from.height(), pixel, width, height, flags)?;
        let mut scaled = frame::Video::empty();
        scaler.run(from, &mut scaled)?;
        Ok(scaled)
    }
}

impl Cover {
    /// A cover that is encoded as a file of that sort is.
    pub(crate) fn of(codec: codec::Id, picture: &EncodedPicture) -> Self {
        let mut parameters = codec::Parameters::new();
        let side = |side: u32| i32::try_from(side).unwrap_or(i32::MAX);
        // SAFETY: the parameters are ours.
        unsafe {
            let raw = parameters.as_mut_ptr();
            (*raw).codec_type = ffi::AVMediaType::AVMEDIA_TYPE_VIDEO;
            (*raw).codec_id = codec.into();
            (*raw).width = side(picture.width);
            (*raw).height = side(picture.height);
        }
        Self { parameters, packet: Packet::copy(&picture.bytes) }
    }

    /// The picture.
    ///
    /// # Errors
    /// libav's; odd ones, too, on bad data.
    pub(crate) fn decode(&self) -> Result<Picture, Error> {
        PictureDecoder::open(self.parameters.clone())?.decode_one(&self.packet)
    }

    /// Width and height, as far as they are known.
    pub(crate) fn size(&self) -> (u32, u32) {
        // SAFETY: the parameters are ours.
        let (width, height) = unsafe { ((*self.parameters.as_ptr()).width, (*self.parameters.as_ptr()).height) };
        (u32::try_from(width).unwrap_or(0), u32::try_from(height).unwrap_or(0))
    }

    /// The bytes of the picture, and how they are encoded.
    pub(crate) fn content(&self) -> (codec::Id, &[u8]) {
        (self.parameters.id(), self.packet.data().unwrap_or_default())
    }
}
