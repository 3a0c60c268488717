//! Whether what was read of a recording is what it promised.

use fourmi_kinds::MediaNote;
use fourmi_model::Failure;

use super::{
    packets::Tally,
    track::{Part, Track},
};
use crate::failure;

/// What is judged.
pub(super) struct Reading<'a> {
    pub(super) track: &'a Track,
    pub(super) part: Part,
    pub(super) tally: Tally,
    /// Whether no sound came out of it.
    pub(super) is_empty: bool,
    /// Whether libav was sure of what the file is.
    pub(super) is_sure: bool,
}

impl Reading<'_> {
    /// # Errors
    /// `corrupt_media`, `not_media`, `truncated_media`, `trim_out_of_range`, `zero_duration`.
    pub(super) fn judge(&self) -> Result<(), Failure> {
        let Self { track, part, tally, is_empty, is_sure } = self;
        let hopeless = tally.damaged.saturating_mul(3) > tally.packets.max(1);
        if hopeless {
            let why = format!("{} errors in the {} packets of its sound", tally.damaged, tally.packets);
            return Err(if *is_sure { failure::corrupt(&why) } else { failure::not_media(&why) });
        }
        if let Some(missing) = self.missing() {
            return Err(failure::truncated(&missing));
        }
        if *is_empty {
            return Err(if part.start > 0 { part.out_of_range(track) } else { failure::zero_duration() });
        }
        Ok(())
    }

    /// What is missing at the end.
    fn missing(&self) -> Option<String> {
        let promised = self.track.promised_end?.min(self.part.end.unwrap_or(i64::MAX));
        let tolerance = (promised / 1_000).max(1_000_000);
        // Who had to repair the clock cannot say what time it is.
        let is_missing = self.tally.jumps == 0 && self.tally.reached < promised - tolerance;
        let ms = |time: i64| failure::clock(u64::try_from(time / 1_000).unwrap_or(0));
        is_missing.then(|| format!("its sound ends at {} instead of {}", ms(self.tally.reached), ms(promised)))
    }
}

/// What was damaged, and left out or repaired.
pub(super) fn damage(tally: &Tally) -> Vec<MediaNote> {
    let mut notes = Vec::new();
    if tally.damaged > 0 {
        let message = format!(
            "{} errors in the {} packets of the sound; what they hit was left out",
            tally.damaged, tally.packets
        );
        notes.push(note("damaged_packets", &message));
    }
    if tally.jumps > 0 {
        let message = format!("the clock of the recording jumped {} times; what follows was joined", tally.jumps);
        notes.push(note("time_stamps_repaired", &message));
    }
    notes
}

pub(super) fn note(code: &str, message: &str) -> MediaNote {
    MediaNote { code: code.to_owned(), message: message.to_owned() }
}
