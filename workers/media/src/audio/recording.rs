//! A recording that was opened, and what of it is asked for.

use std::path::Path;

use fourmi_kinds::AudioExtract;
use fourmi_model::Failure;

use super::{
    labels::{Extras, Labels},
    packets::{Limits, Packets},
    track::{Part, Track},
};
use crate::{Control, libav::Input};

/// A recording that was opened.
pub(super) struct Recording<'c> {
    pub(super) input: Input<'c>,
    pub(super) track: Track,
    pub(super) limits: Limits,
}

impl<'c> Recording<'c> {
    /// Opens it and chooses its sound.
    ///
    /// # Errors
    /// Those of a file that is no recording, or has no sound; `duration_exceeded`, if it is known beforehand.
    pub(super) fn open(path: &Path, longest_ms: Option<u64>, control: &'c dyn Control) -> Result<Self, Failure> {
        let open = || {
            let input = Input::open(path, control)?;
            let track = Track::choose(&input)?;
            let limits = Limits::of(path, longest_ms);
            limits.check(track.promised_end.unwrap_or(0))?;
            Ok(Self { input, track, limits })
        };
        open().map_err(|failure: Failure| failure.in_stage("probe"))
    }

    /// What the file is to say of itself, and the part that is asked for.
    ///
    /// # Errors
    /// `trim_out_of_range`.
    pub(super) fn asked(&self, request: &AudioExtract, extras: &Extras<'_>) -> Result<(Labels, Part), Failure> {
        let labels = Labels::read(&self.input, &self.track, request, extras);
        let part = Part::of(request.trim, &labels.chapters, &self.track)?;
        Ok((labels, part))
    }

    /// The packets of a part, and so much before and after it.
    pub(super) fn packets(&mut self, part: Part, margin: i64) -> Packets<'_, 'c> {
        Packets::of(&mut self.input, &self.track, part, margin, self.limits)
    }
}
