//! Takes the packets over as they are.

use ffmpeg_next::{Error, Rescale, codec};
use fourmi_model::Failure;

use super::packets::{Packets, Tally};
use crate::{
    failure,
    libav::{MICROSECONDS, Output, Stream},
    progress::{Pace, Place},
};

/// What a packet holds at least of the part, so that it is taken.
pub(super) const MARGIN: i64 = 0;

/// Declares the sound to `output`.
pub(super) fn declare(
    output: &mut Output<'_>,
    parameters: codec::Parameters,
    stream: &Stream,
    language: Option<&str>,
) -> Result<(), Failure> {
    output
        .add_sound(parameters, stream.time_base, language)
        .map_err(|error| failure::libav(error, "preparing the file"))
}

/// Writes all packets to `output`, which is started. If it is a part that is taken (`from_zero`), its first packet moves to 0.
///
/// # Errors
/// `cancelled`, `disk_full`, `duration_exceeded`, and what libav says.
pub(super) fn run(
    packets: &mut Packets<'_, '_>,
    output: &mut Output<'_>,
    stream: &Stream,
    from_zero: bool,
    pace: &mut Pace<'_>,
) -> Result<Tally, Failure> {
    let unit = stream.time_base;
    let mut offset = if from_zero { None } else { Some(0) };
    let mut last = None;
    while let Some(mut packet) = packets.next(pace)? {
        let (pts, dts) = (packet.pts().unwrap_or(0), packet.dts().unwrap_or(0));
        let offset = *offset.get_or_insert(pts);
        // Containers refuse packets that do not follow one another.
        let dts = last.map_or(dts - offset, |last: i64| (dts - offset).max(last + 1));
        last = Some(dts);
        packet.set_dts(Some(dts));
        packet.set_pts(Some(pts.saturating_sub(offset).max(dts)));
        let done = dts.saturating_add(packet.duration()).rescale(unit, MICROSECONDS).max(0);
        match output.write(packet, unit) {
            Ok(()) => {}
            // What the container checks before it takes it.
            Err(Error::InvalidData) => packets.tally.damaged += 1,
            Err(error) => return Err(failure::libav(error, "writing the file")),
        }
        if pace.is_due() {
            let fraction = packets.fraction(packets.tally.reached);
            pace.tell(&Place { fraction, media_ms: done.unsigned_abs() / 1_000, output_bytes: output.position() });
        }
    }
    Ok(packets.tally)
}
