//! How far a run is, told at a bearable pace.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use fourmi_model::{Failure, Progress};

use crate::Control;

/// No more often than this is progress told.
const INTERVAL: Duration = Duration::from_millis(50);

/// Before this, an estimate of the remaining time would be noise.
const FIRST_ESTIMATE: Duration = Duration::from_millis(300);

/// Tells how far one stage is.
pub(crate) struct Pace<'c> {
    control: &'c dyn Control,
    /// None: it keeps it to itself.
    stage: Option<&'static str>,
    started: Instant,
    told: Option<Instant>,
    percent: f32,
}

/// Where a stage is.
pub(crate) struct Place {
    /// 0 to 1, as far as anybody knows.
    pub(crate) fraction: f64,
    /// How much sound is done.
    pub(crate) media_ms: u64,
    pub(crate) output_bytes: u64,
}

impl<'c> Pace<'c> {
    pub(crate) fn start(control: &'c dyn Control, stage: &'static str) -> Self {
        Self { control, stage: Some(stage), started: Instant::now(), told: None, percent: 0.0 }
    }

    /// Tells nobody, and only asks whether to go on.
    pub(crate) fn silent(control: &'c dyn Control) -> Self {
        Self { control, stage: None, started: Instant::now(), told: None, percent: 0.0 }
    }

    /// # Errors
    /// `cancelled`.
    pub(crate) fn go_on(&self) -> Result<(), Failure> {
        if self.control.cancelled() { Err(Failure::cancelled()) } else { Ok(()) }
    }

    /// Whether somebody would hear; asked first, because finding out the place costs something.
    pub(crate) fn is_due(&self) -> bool {
        self.stage.is_some() && self.told.is_none_or(|told| told.elapsed() >= INTERVAL)
    }

    /// Tells where it is.
    pub(crate) fn tell(&mut self, place: &Place) {
        // Time stamps of damaged recordings jump; 100 is said by `done` alone.
        let fraction = place.fraction.clamp(0.0, 0.999);
        self.percent = self.percent.max((fraction * 100.0) as f32);
        self.say(place, self.eta(fraction));
    }

    /// Tells that the stage is done.
    pub(crate) fn done(&mut self, place: &Place) {
        self.percent = 100.0;
        self.say(place, Some(0));
    }

    fn eta(&self, fraction: f64) -> Option<u64> {
        let elapsed = self.started.elapsed();
        (elapsed >= FIRST_ESTIMATE && fraction > 0.0)
            .then(|| (elapsed.as_millis() as f64 * (1.0 - fraction) / fraction).round() as u64)
    }

    fn say(&mut self, place: &Place, eta_ms: Option<u64>) {
        let Some(stage) = self.stage else { return };
        let media_ms = place.media_ms as f64;
        let wall_ms = self.started.elapsed().as_secs_f64() * 1_000.0;
        let speed = if wall_ms > 0.0 { media_ms / wall_ms } else { 0.0 };
        self.told = Some(Instant::now());
        self.control.progress(Progress {
            stage: stage.to_owned(),
            percent: self.percent,
            message: message(place.media_ms, speed),
            eta_ms,
            counters: BTreeMap::from([
                ("media_ms".to_owned(), media_ms),
                ("output_bytes".to_owned(), place.output_bytes as f64),
                ("speed".to_owned(), speed),
            ]),
            file: None,
        });
    }
}

fn message(media_ms: u64, speed: f64) -> String {
    let seconds = media_ms / 1_000;
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    match (media_ms, hours) {
        (0, _) => "just begun".to_owned(),
        (_, 0) => format!("{minutes}:{seconds:02} of sound, {} as fast as it plays", times(speed)),
        _ => format!("{hours}:{minutes:02}:{seconds:02} of sound, {} as fast as it plays", times(speed)),
    }
}

fn times(speed: f64) -> String {
    if speed < 10.0 { format!("{speed:.1} times") } else { format!("{speed:.0} times") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_read_well() {
        assert_eq!(message(0, 0.0), "just begun");
        assert_eq!(message(62_900, 3.06), "1:02 of sound, 3.1 times as fast as it plays");
        assert_eq!(message(3_723_000, 141.4), "1:02:03 of sound, 141 times as fast as it plays");
    }
}
