//! The samples of a frame of sound.

#![expect(unsafe_code, reason = "gives out all planes of a frame at once")]

use ffmpeg_next::{Error, ffi, format::Sample, format::sample::Type, frame};

/// The channels of a frame of planar floats; none of any other frame.
pub(crate) fn planes(frame: &frame::Audio) -> Vec<&[f32]> {
    let channels = if is_planar_float(frame) { usize::from(frame.channels()) } else { 0 };
    // SAFETY: such a frame holds so many samples in each of its planes, which libav aligns for any type of sample.
    let plane = |index| unsafe {
        let plane: *const f32 = (*(*frame.as_ptr()).extended_data.add(index)).cast();
        std::slice::from_raw_parts(plane, frame.samples())
    };
    (0..channels).map(plane).collect()
}

/// The same, to be changed. The frame must be one that nobody else reads.
pub(crate) fn planes_mut(frame: &mut frame::Audio) -> Vec<&mut [f32]> {
    let channels = if is_planar_float(frame) { usize::from(frame.channels()) } else { 0 };
    let samples = frame.samples();
    // SAFETY: as in `planes`; no plane overlaps another, and all are borrowed with the frame.
    let plane = |index| unsafe {
        let plane: *mut f32 = (*(*frame.as_mut_ptr()).extended_data.add(index)).cast();
        std::slice::from_raw_parts_mut(plane, samples)
    };
    (0..channels).map(plane).collect()
}

/// The loudest sample that is let through, where 1 is full scale: far more than a decoder overshoots.
const LOUDEST: f32 = 8.0;

/// Takes numbers that are no sound out of floating-point samples: damaged or hostile files hold infinities, on which encoders
/// fail or even abort the process (LAME).
///
/// # Errors
/// No memory.
pub(crate) fn tame(frame: &mut frame::Audio) -> Result<(), Error> {
    let Sample::F32(_) = frame.format() else { return Ok(()) };
    let channels = usize::from(frame.channels());
    let (planes, samples) =
        if frame.is_packed() { (1, frame.samples() * channels) } else { (channels, frame.samples()) };
    // SAFETY: the frame is ours. Once writable, nobody else has its planes, each of which holds so many samples; libav aligns
    // them for any type of sample.
    unsafe {
        match ffi::av_frame_make_writable(frame.as_mut_ptr()) {
            error if error < 0 => return Err(Error::from(error)),
            _ => {}
        }
        for plane in 0..planes {
            let plane = *(*frame.as_mut_ptr()).extended_data.add(plane);
            for sample in std::slice::from_raw_parts_mut(plane.cast::<f32>(), samples) {
                *sample = if sample.is_finite() { sample.clamp(-LOUDEST, LOUDEST) } else { 0.0 };
            }
        }
    }
    Ok(())
}

fn is_planar_float(frame: &frame::Audio) -> bool {
    // SAFETY: a frame has an array of planes, whose first is null if it is empty.
    let is_empty = unsafe { (*(*frame.as_ptr()).extended_data).is_null() };
    !is_empty && frame.format() == Sample::F32(Type::Planar)
}
