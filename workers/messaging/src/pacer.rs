//! How fast many messages are sent: as FCM asks, by and by, and not when everybody sends
//! (<https://firebase.google.com/docs/cloud-messaging/scale-fcm>).

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;

/// How long the way from nothing to the full rate is. After as long a rest it begins anew.
const RAMP: Duration = Duration::from_secs(60);

/// What it begins with, as a part of the full rate.
const START: f64 = 0.02;

/// Apps send at full quarters of an hour, in seconds.
const QUARTER: i64 = 900;

/// How long before and after those nothing is sent that can wait, in seconds.
const PEAK: i64 = 60;

/// Spreads messages over time.
pub(crate) struct Pacer {
    per_second: f64,
    state: Mutex<State>,
}

struct State {
    started: Instant,
    /// When the next message may go.
    next: Instant,
}

impl Pacer {
    pub(crate) fn new(per_minute: u32) -> Self {
        let now = Instant::now();
        Self { per_second: f64::from(per_minute.max(1)) / 60.0, state: Mutex::new(State { started: now, next: now }) }
    }

    /// Takes the next place, and says how long it is until then.
    pub(crate) fn place(&self) -> Duration {
        self.place_at(Instant::now())
    }

    fn place_at(&self, now: Instant) -> Duration {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(state.next) >= RAMP {
            state.started = now;
        }
        let place = state.next.max(now);
        let ramp = place.saturating_duration_since(state.started).as_secs_f64() / RAMP.as_secs_f64();
        let rate = self.per_second * ramp.clamp(START, 1.0);
        state.next = place + Duration::from_secs_f64(1.0 / rate);
        place.saturating_duration_since(now)
    }
}

/// How long it is until nobody minds; `None` if that is now.
pub(crate) fn peak(now: Timestamp) -> Option<Duration> {
    let into = now.as_second().rem_euclid(QUARTER);
    let seconds = match into {
        _ if into < PEAK => PEAK - into,
        _ if into >= QUARTER - PEAK => QUARTER - into + PEAK,
        _ => return None,
    };
    Some(Duration::from_secs(seconds.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many go in a second.
    fn in_a_second(pacer: &Pacer, from: Instant) -> usize {
        let mut now = from;
        let mut count = 0;
        while now < from + Duration::from_secs(1) {
            now += pacer.place_at(now);
            count += 1;
        }
        count
    }

    #[test]
    fn the_full_rate_comes_by_and_by_and_anew_after_a_rest() {
        let pacer = Pacer::new(600_000);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for (second, expected) in [(0, 200..=220), (30, 4_900..=5_200), (59, 9_800..=10_050), (90, 9_900..=10_050)] {
            let count = in_a_second(&pacer, at(second));
            assert!(expected.contains(&count), "{second}: {count}");
        }
        let count = in_a_second(&pacer, at(152));
        assert!(count <= 220, "{count}");
    }

    #[test]
    fn around_a_quarter_nothing_goes_that_can_wait() {
        for (time, seconds) in [
            ("2026-01-02T03:13:59Z", None),
            ("2026-01-02T03:14:00Z", Some(120)),
            ("2026-01-02T03:15:00Z", Some(60)),
            ("2026-01-02T03:15:59Z", Some(1)),
            ("2026-01-02T03:16:00Z", None),
        ] {
            assert_eq!(peak(time.parse().unwrap()).map(|wait| wait.as_secs()), seconds, "{time}");
        }
    }
}
