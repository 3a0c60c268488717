//! The packets of the sound, in times from the start of the recording.

use std::path::Path;

use ffmpeg_next::{Packet, Rational, Rescale, packet::side_data};
use fourmi_model::Failure;

use super::{
    MAX_DURATION,
    track::{Part, Track},
};
use crate::{
    failure, files,
    libav::{Input, MICROSECONDS, Read},
    progress::Pace,
};

/// A jump of the time stamps by more than this, in microseconds, needs a reason.
const JUMP: i64 = 10_000_000;

/// No frame of sound is longer than this, in microseconds.
const FRAME: i64 = 120_000;

/// Reads the packets of one track, and counts what happens.
pub(super) struct Packets<'i, 'c> {
    input: &'i mut Input<'c>,
    track: &'i Track,
    part: Part,
    /// As much before and after the part is given, too: decoders need to warm up.
    margin: i64,
    clock: Clock,
    limits: Limits,
    pub(super) tally: Tally,
}

/// How far reading can go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// The size of the file.
    pub(super) bytes: u64,
    /// The longest recording that is taken, in microseconds.
    pub(super) longest: i64,
}

impl Limits {
    /// For a file, and the longest recording that a request takes.
    pub(super) fn of(file: &Path, longest_ms: Option<u64>) -> Self {
        let most = i64::try_from(MAX_DURATION.as_micros()).unwrap_or(i64::MAX);
        let asked = longest_ms.and_then(|ms| i64::try_from(ms).ok()).and_then(|ms| ms.checked_mul(1_000));
        Self { bytes: files::size_of(file), longest: asked.map_or(most, |asked| asked.min(most)) }
    }

    /// # Errors
    /// `duration_exceeded`.
    pub(super) fn check(self, end: i64) -> Result<(), Failure> {
        // An encoder's last frame is longer than what it holds.
        if end > self.longest.saturating_add(FRAME) { Err(failure::duration_exceeded(self.longest)) } else { Ok(()) }
    }
}

/// What was met.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    pub(super) packets: u64,
    /// Packets that could not be read or decoded.
    pub(super) damaged: u64,
    /// Time stamps that made no sense.
    pub(super) jumps: u64,
    /// Where the last packet ends.
    pub(super) reached: i64,
}

impl<'i, 'c> Packets<'i, 'c> {
    /// Goes to the part of the track.
    pub(super) fn of(input: &'i mut Input<'c>, track: &'i Track, part: Part, margin: i64, limits: Limits) -> Self {
        input.only(track.stream.index);
        if part.start > margin && input.seeks_exactly() {
            input.seek_before(part.start - margin);
        }
        let end = track.likely_end.filter(|_| !input.may_jump());
        let clock = Clock::new(track.stream.time_base, end);
        Self { input, track, part, margin, clock, limits, tally: Tally::default() }
    }

    /// The next packet, or none at the end of the part or file.
    ///
    /// # Errors
    /// `cancelled`, `drm`, and what libav says.
    pub(super) fn next(&mut self, pace: &Pace<'_>) -> Result<Option<Packet>, Failure> {
        loop {
            pace.go_on()?;
            let mut packet = match self.input.read()? {
                Read::End => return Ok(None),
                Read::Damaged => {
                    self.tally.damaged += 1;
                    continue;
                }
                Read::Packet(packet) if packet.stream() != self.track.stream.index => continue,
                Read::Packet(packet) => packet,
            };
            self.count(&packet)?;
            let (start, end) = self.set_time(&mut packet);
            self.limits.check(end)?;
            if end < self.part.start.saturating_sub(self.margin) {
                continue;
            }
            if self.part.end.is_some_and(|part_end| start > part_end.saturating_add(self.margin)) {
                return Ok(None);
            }
            return Ok(Some(packet));
        }
    }

    /// How much of the part is done at `time`, from 0 to 1.
    pub(super) fn fraction(&self, time: i64) -> f64 {
        let read = self.input.position() as f64 / self.limits.bytes.max(1) as f64;
        self.part.fraction(time, self.track, read)
    }

    fn count(&mut self, packet: &Packet) -> Result<(), Failure> {
        let encrypted = |packet: &Packet| packet.side_data().any(|data| data.kind() == side_data::Type::EncryptionInfo);
        if self.tally.packets == 0 && encrypted(packet) {
            return Err(failure::drm(&self.track.stream.codec_name));
        }
        self.tally.packets += 1;
        self.tally.damaged += u64::from(packet.is_corrupt());
        Ok(())
    }

    /// Gives the packet its time from the start of the recording; says where it starts and ends, in microseconds.
    fn set_time(&mut self, packet: &mut Packet) -> (i64, i64) {
        let unit = self.track.stream.time_base;
        let origin = self.input.origin().rescale(MICROSECONDS, unit);
        let time = packet.pts().or(packet.dts()).map(|time| time.saturating_sub(origin));
        let placed = self.clock.place(time, packet.duration().max(0));
        let shift = time.map_or(0, |time| placed.saturating_sub(time).saturating_sub(origin));
        let moved = |time: Option<i64>| time.map_or(placed, |time| time.saturating_add(shift));
        let (pts, dts) = (moved(packet.pts()), moved(packet.dts()));
        packet.set_pts(Some(pts));
        packet.set_dts(Some(dts));
        self.tally.jumps = self.clock.jumps;
        let end = self.clock.next.rescale(unit, MICROSECONDS);
        self.tally.reached = self.tally.reached.max(end);
        (placed.rescale(unit, MICROSECONDS), end)
    }
}

/// Makes sense of time stamps that jump: broadcast streams start anew, damaged files say anything.
///
/// A jump is closed if it goes back, or ahead past the end of the recording. A jump ahead within it is a gap. Where the end
/// is not known, or not to be trusted, every jump is closed.
struct Clock {
    jump: i64,
    end: Option<i64>,
    shift: i64,
    next: i64,
    started: bool,
    jumps: u64,
}

impl Clock {
    fn new(unit: Rational, end: Option<i64>) -> Self {
        let in_unit = |time: i64| time.rescale(MICROSECONDS, unit);
        Self { jump: in_unit(JUMP), end: end.map(in_unit), shift: 0, next: 0, started: false, jumps: 0 }
    }

    fn place(&mut self, time: Option<i64>, duration: i64) -> i64 {
        let at = match time {
            Some(time) => self.close_jump(time.saturating_add(self.shift)),
            None => self.next,
        };
        self.started = true;
        self.next = at.saturating_add(duration);
        at
    }

    fn close_jump(&mut self, at: i64) -> i64 {
        let ahead = at.saturating_sub(self.next);
        let past_end = self.end.map(|end| at > end.saturating_add(self.jump));
        let strays = if self.started {
            ahead < -self.jump || ahead > self.jump && past_end.unwrap_or(true)
        } else {
            past_end.unwrap_or(false)
        };
        if !strays {
            return at;
        }
        self.jumps += 1;
        self.shift = self.shift.saturating_sub(ahead);
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000;

    fn places(end: Option<i64>, times: &[i64]) -> (Vec<i64>, u64) {
        let mut clock = Clock::new(Rational(1, 1_000), end.map(|end| end * 1_000));
        let placed = times.iter().map(|&time| clock.place(Some(time * SECOND), SECOND) / SECOND).collect();
        (placed, clock.jumps)
    }

    #[test]
    fn gaps_stay_and_nonsense_is_closed() {
        assert_eq!(places(Some(100 * SECOND), &[0, 1, 2, 60, 61]), (vec![0, 1, 2, 60, 61], 0), "a gap");
        assert_eq!(places(Some(100 * SECOND), &[0, 1, 900, 901]), (vec![0, 1, 2, 3], 1), "past the end");
        assert_eq!(places(Some(100 * SECOND), &[50, 51, 0, 1]), (vec![50, 51, 52, 53], 1), "a new start");
        assert_eq!(places(None, &[0, 1, 60, 61, 0, 1]), (vec![0, 1, 2, 3, 4, 5], 2), "nobody knows the end");
        assert_eq!(places(Some(100 * SECOND), &[5_000, 5_001]), (vec![0, 1], 1), "a start past the end");
        assert_eq!(places(None, &[50, 51]), (vec![50, 51], 0), "a late start");
        assert_eq!(places(None, &[0, 1, 5, 3]), (vec![0, 1, 5, 3], 0), "small steps are not jumps");
    }

    #[test]
    fn a_packet_without_a_time_follows_the_one_before() {
        let mut clock = Clock::new(Rational(1, 1_000), None);
        assert_eq!([Some(0), None, None].map(|time| clock.place(time, 20)), [0, 20, 40]);
        assert_eq!(clock.place(Some(i64::MAX), i64::MAX), 60);
    }
}
