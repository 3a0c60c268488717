//! The shape of sound, to be drawn, in the forms of the BBC's audiowaveform, version 2: of every so many samples the lowest
//! and the highest, all channels mixed into one.
//!
//! See <https://github.com/bbc/audiowaveform/blob/master/doc/DataFormat.md>.

use std::{
    fs::File,
    io::{self, BufWriter, Seek, SeekFrom, Write},
    path::Path,
};

use ffmpeg_next::{format::Sample, format::sample::Type, frame};
use fourmi_kinds::{Points, Waveform};
use fourmi_model::Failure;

use crate::{failure, files};

/// The length is known in the end only: this much room is kept for its digits.
const LENGTH_DIGITS: usize = 20;

/// Writes a waveform while sound passes by.
pub(crate) struct Collector {
    file: BufWriter<File>,
    path: tempfile::TempPath,
    encoding: Encoding,
    bits: u8,
    samples_per_pixel: u32,
    /// Of the pixel that is not full yet.
    pixel: Pixel,
    /// Pixels that were written.
    length: u64,
    /// Where in the file their number stands.
    length_at: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Json,
    Binary,
}

#[derive(Clone, Copy)]
struct Pixel {
    lowest: i16,
    highest: i16,
    samples: u32,
}

impl Pixel {
    const EMPTY: Self = Self { lowest: i16::MAX, highest: i16::MIN, samples: 0 };

    fn take(&mut self, sample: i16) {
        self.lowest = self.lowest.min(sample);
        self.highest = self.highest.max(sample);
        self.samples += 1;
    }
}

impl Collector {
    /// For sound of so many samples a second; none if no waveform is asked for.
    ///
    /// # Errors
    /// `disk_full`, `storage_failed`.
    pub(crate) fn create(form: Waveform, sample_rate: u32, folder: &Path) -> Result<Option<Self>, Failure> {
        let (encoding, points) = match form {
            Waveform::Off => return Ok(None),
            Waveform::Json(points) => (Encoding::Json, points),
            Waveform::Binary(points) => (Encoding::Binary, points),
        };
        let path = files::temporary_in(folder)?;
        let file = File::options().write(true).truncate(true).open(&path).map_err(|error| unwritten(&error))?;
        let mut collector = Self {
            file: BufWriter::new(file),
            path,
            encoding,
            bits: points.bits,
            samples_per_pixel: samples_per_pixel(points, sample_rate),
            pixel: Pixel::EMPTY,
            length: 0,
            length_at: 0,
        };
        collector.write_header(sample_rate).map_err(|error| unwritten(&error))?;
        Ok(Some(collector))
    }

    /// Takes note of a frame.
    ///
    /// # Errors
    /// `disk_full`, `storage_failed`.
    pub(crate) fn take(&mut self, frame: &frame::Audio) -> Result<(), Failure> {
        for_each_mixed(frame, |sample| {
            self.pixel.take(sample);
            if self.pixel.samples == self.samples_per_pixel { self.write_pixel() } else { Ok(()) }
        })
        .map_err(|error| unwritten(&error))
    }

    /// Writes what is left; gives the whole file.
    ///
    /// # Errors
    /// `disk_full`, `storage_failed`.
    pub(crate) fn end(mut self) -> Result<tempfile::TempPath, Failure> {
        self.write_end().map_err(|error| unwritten(&error))?;
        Ok(self.path)
    }

    fn write_header(&mut self, sample_rate: u32) -> io::Result<()> {
        let (bits, per_pixel) = (self.bits, self.samples_per_pixel);
        match self.encoding {
            Encoding::Json => {
                write!(
                    self.file,
                    r#"{{"version":2,"channels":1,"sample_rate":{sample_rate},"samples_per_pixel":{per_pixel},"bits":{bits},"length":"#
                )?;
                self.length_at = self.file.stream_position()?;
                write!(self.file, r#"{:LENGTH_DIGITS$},"data":["#, 0)
            }
            Encoding::Binary => {
                self.length_at = 16;
                for number in [2, u32::from(bits == 8), sample_rate, per_pixel, 0, 1] {
                    self.file.write_all(&number.to_le_bytes())?;
                }
                Ok(())
            }
        }
    }

    fn write_pixel(&mut self) -> io::Result<()> {
        let Pixel { lowest, highest, .. } = std::mem::replace(&mut self.pixel, Pixel::EMPTY);
        let (lowest, highest) = if self.bits == 8 { (lowest / 256, highest / 256) } else { (lowest, highest) };
        let is_first = self.length == 0;
        self.length += 1;
        match self.encoding {
            Encoding::Json if is_first => write!(self.file, "{lowest},{highest}"),
            Encoding::Json => write!(self.file, ",{lowest},{highest}"),
            Encoding::Binary if self.bits == 8 => {
                self.file.write_all(&[lowest.to_le_bytes()[0], highest.to_le_bytes()[0]])
            }
            Encoding::Binary => {
                self.file.write_all(&lowest.to_le_bytes())?;
                self.file.write_all(&highest.to_le_bytes())
            }
        }
    }

    fn write_end(&mut self) -> io::Result<()> {
        if self.pixel.samples > 0 {
            self.write_pixel()?;
        }
        if self.encoding == Encoding::Json {
            self.file.write_all(b"]}")?;
        }
        self.file.seek(SeekFrom::Start(self.length_at))?;
        match self.encoding {
            Encoding::Json => write!(self.file, "{:LENGTH_DIGITS$}", self.length)?,
            Encoding::Binary => self.file.write_all(&u32::try_from(self.length).unwrap_or(u32::MAX).to_le_bytes())?,
        }
        self.file.flush()
    }
}

/// The name of the file that holds it.
pub(crate) fn file_name(form: Waveform) -> &'static str {
    match form {
        Waveform::Binary(_) => "waveform.dat",
        Waveform::Off | Waveform::Json(_) => "waveform.json",
    }
}

/// Samples in a pixel: as near as it gets to so many pixels a second.
fn samples_per_pixel(points: Points, sample_rate: u32) -> u32 {
    let per_second = points.per_second.max(1);
    ((sample_rate + per_second / 2) / per_second).max(1)
}

/// Every sample, 16 bits, its channels mixed into one.
fn for_each_mixed(frame: &frame::Audio, mut take: impl FnMut(i16) -> io::Result<()>) -> io::Result<()> {
    let (samples, channels) = (frame.samples(), usize::from(frame.channels()).max(1));
    if samples == 0 || frame.planes() == 0 {
        return Ok(());
    }
    let mut mix = |sample: &dyn Fn(usize, usize) -> i16| {
        (0..samples).try_for_each(|at| {
            let sum: i32 = (0..channels).map(|channel| i32::from(sample(channel, at))).sum();
            take((sum / channels as i32) as i16)
        })
    };
    match frame.format() {
        Sample::I16(Type::Packed) => {
            let plane = frame.plane::<i16>(0);
            mix(&|channel, at| plane[at * channels + channel])
        }
        Sample::I32(Type::Packed) => {
            let plane = frame.plane::<i32>(0);
            mix(&|channel, at| (plane[at * channels + channel] >> 16) as i16)
        }
        Sample::F32(Type::Packed) => {
            let plane = frame.plane::<f32>(0);
            mix(&|channel, at| in_16_bits(plane[at * channels + channel]))
        }
        Sample::I16(Type::Planar) => {
            let planes: Vec<_> = (0..frame.planes()).map(|plane| frame.plane::<i16>(plane)).collect();
            mix(&|channel, at| planes[channel][at])
        }
        Sample::F32(Type::Planar) => {
            let planes: Vec<_> = (0..frame.planes()).map(|plane| frame.plane::<f32>(plane)).collect();
            mix(&|channel, at| in_16_bits(planes[channel][at]))
        }
        // No encoder here takes any other.
        _ => Ok(()),
    }
}

/// As FFmpeg converts it; what is too loud is cut off.
fn in_16_bits(sample: f32) -> i16 {
    (sample * 32_768.0).round_ties_even() as i16
}

fn unwritten(error: &io::Error) -> Failure {
    failure::storage(error, "writing the waveform")
}
