//! When a job may start: from the pace at which jobs of its queue have started lately, and from how many go before it.
//!
//! Starts are counted as if they came at random (Poisson). The square root of such a count strays by about a half whatever
//! the count (M. S. Bartlett 1936), so a count and its square root ± 1 hold the true value nineteen times out of twenty.

use std::time::Duration;

use fourmi_model::EstimatedStart;
use jiff::Timestamp;

/// How many runs have started in which time, lately.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Pace {
    pub(crate) starts: u64,
    pub(crate) seconds: f64,
}

impl Pace {
    /// From the samples that reclaim.lua keeps (`<time> <number> <time> <number>`, ms) and how it is now; `None` if nothing
    /// has started.
    pub(crate) fn read(samples: &str, now_ms: u64, started: u64) -> Option<Self> {
        let mut words = samples.split(' ').map(|word| word.parse::<u64>().ok());
        let (since, before) = (words.next()??, words.next()??);
        let seconds = Duration::from_millis(now_ms.saturating_sub(since)).as_secs_f64().max(1.0);
        let starts = started.saturating_sub(before);
        (starts > 0).then_some(Self { starts, seconds })
    }

    /// Starts in a second.
    pub(crate) fn per_second(self) -> f64 {
        float(self.starts) / self.seconds
    }

    /// Starts in a second: hardly fewer, most likely, hardly more.
    fn rates(self) -> [f64; 3] {
        let starts = float(self.starts);
        // A few starts say little, but not that there will be none.
        let [low, high] = [spread(starts, -1.0).max(starts / 4.0), spread(starts, 1.0)];
        [low, starts, high].map(|starts| starts / self.seconds)
    }
}

/// What goes before a job.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Turns {
    /// Jobs before it in its lane.
    pub(crate) ahead: u64,
    /// Others that take turns with its lane.
    pub(crate) rivals: Vec<Rival>,
    /// Starts of all lanes for one of its own, if all that could be filled were.
    pub(crate) worst: f64,
    /// Slots that are free now.
    pub(crate) free: u64,
}

/// Who takes turns with a lane.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rival {
    /// Its starts for one of the lane.
    pub(crate) turns: f64,
    /// How many jobs it has.
    pub(crate) waiting: u64,
}

impl Turns {
    /// How many starts come before that of the job and with it, and find no free slot: hardly fewer (its lane has all
    /// turns), most likely, hardly more (nobody runs out of jobs).
    fn starts(&self) -> [f64; 3] {
        let mine = float(self.ahead.saturating_add(1));
        let others: f64 = self.rivals.iter().map(|rival| float(rival.waiting).min(mine * rival.turns)).sum();
        [mine, mine + others, mine * self.worst].map(|starts| (starts - float(self.free)).max(0.0))
    }
}

/// When a job starts that may not start before `due`; `None` if it needs a slot and none has become free lately.
pub(crate) fn estimate(now: Timestamp, due: Timestamp, turns: &Turns, pace: Option<Pace>) -> Option<EstimatedStart> {
    let [least, likely, most] = turns.starts();
    let waits = match pace.map(Pace::rates) {
        Some([low, rate, high]) => {
            let latest = if most > 0.0 { spread(most, 1.0) } else { 0.0 };
            [spread(least, -1.0) / high, likely / rate, latest / low]
        }
        None if likely > 0.0 => return None,
        None => [0.0; 3],
    };
    let [low, at, high] = waits.map(|seconds| {
        let wait = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX).min(LONGEST);
        (wait, now.saturating_add(wait).unwrap_or(Timestamp::MAX))
    });
    // Whoever waits for a time comes to the end of a lane that may be as long then as it is now.
    let behind = due.max(now).saturating_add(high.0).unwrap_or(Timestamp::MAX);
    Some(EstimatedStart { low: low.1.max(due), at: at.1.max(due), high: high.1.max(behind) })
}

/// Nobody looks further ahead.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3_600);

/// The square of a number's square root and `by`.
fn spread(number: f64, by: f64) -> f64 {
    (number.sqrt() + by).max(0.0).powi(2)
}

#[expect(clippy::cast_precision_loss, reason = "a guess needs no sixteen digits")]
pub(crate) fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A lane of normal priority, and so many urgent jobs.
    fn turns(ahead: u64, urgent: u64, free: u64) -> Turns {
        Turns { ahead, rivals: vec![Rival { turns: 4.0, waiting: urgent }], worst: 7.5, free }
    }

    /// Seconds from now: low, at, high.
    fn seconds(turns: &Turns, pace: Option<Pace>, due: i64) -> Option<[i64; 3]> {
        let now = Timestamp::UNIX_EPOCH;
        let due = Timestamp::from_second(due).unwrap();
        estimate(now, due, turns, pace).map(|it| [it.low, it.at, it.high].map(Timestamp::as_second))
    }

    #[test]
    fn a_pace_needs_starts() {
        assert_eq!(Pace::read("1000 40 31000 60", 61_000, 100), Some(Pace { starts: 60, seconds: 60.0 }));
        assert_eq!(Pace::read("1000 100 31000 100", 61_000, 100), None);
        assert_eq!(Pace::read("", 61_000, 100), None);
    }

    #[test]
    fn a_job_waits_for_those_before_it_and_for_its_share_of_the_turns() {
        let pace = Some(Pace { starts: 600, seconds: 60.0 });
        assert_eq!(seconds(&turns(99, 0, 0), pace, 0).unwrap()[1], 10);
        // Four urgent ones go before each normal one, until no urgent one is left.
        assert_eq!(seconds(&turns(99, 100, 0), pace, 0).unwrap()[1], 20);
        assert_eq!(seconds(&turns(99, 9_999, 0), pace, 0).unwrap()[1], 50);
    }

    #[test]
    fn the_less_is_known_the_further_the_times_lie_apart() {
        let much = seconds(&turns(99, 0, 0), Some(Pace { starts: 600, seconds: 60.0 }), 0).unwrap();
        let little = seconds(&turns(99, 0, 0), Some(Pace { starts: 6, seconds: 0.6 }), 0).unwrap();
        let far = seconds(&turns(9_999, 0, 0), Some(Pace { starts: 600, seconds: 60.0 }), 0).unwrap();
        assert!(little[0] < much[0] && much[1] == little[1] && much[2] < little[2], "{much:?} {little:?}");
        assert!(far[2] - far[0] > much[2] - much[0], "{much:?} {far:?}");
        for [low, at, high] in [much, little, far] {
            assert!(low <= at && at <= high);
        }
    }

    #[test]
    fn free_slots_take_what_is_due_at_once_and_without_them_somebody_must_have_started() {
        assert_eq!(seconds(&turns(0, 0, 8), None, 0), Some([0, 0, 0]));
        assert_eq!(seconds(&turns(0, 0, 8), None, 60), Some([60, 60, 60]));
        assert_eq!(seconds(&turns(8, 0, 8), None, 0), None);
        let [low, at, high] = seconds(&turns(0, 0, 0), Some(Pace { starts: 60, seconds: 60.0 }), 3_600).unwrap();
        assert!(low == 3_600 && at == 3_600 && high > 3_600);
    }
}
