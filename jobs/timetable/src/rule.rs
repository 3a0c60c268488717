//! The ticks of a schedule.

use std::time::Duration;

use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use fourmi_model::{Rule, ScheduleId};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use sha2::{Digest, Sha256};

/// The most seconds between two ticks: a year.
const MAX_EVERY_S: u32 = 366 * 86_400;

/// The longest jitter: a day.
const MAX_JITTER_S: u32 = 86_400;

/// The longest expression, in bytes.
const MAX_CRON: usize = 256;

/// Why a rule gives no ticks; the name of the field that is to be changed, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {reason}")]
pub struct RuleError {
    /// The field of [`Rule`].
    pub field: &'static str,
    /// What is wrong with it, such as "must be …".
    pub reason: String,
}

impl RuleError {
    fn new(field: &'static str, reason: impl Into<String>) -> Self {
        Self { field, reason: reason.into() }
    }
}

/// When a schedule is due.
#[derive(Debug, Clone)]
pub struct Timetable {
    repetition: Repetition,
    zone: TimeZone,
    jitter: Duration,
    starts_at: Option<Timestamp>,
    ends_at: Option<Timestamp>,
}

#[derive(Debug, Clone)]
enum Repetition {
    Cron(Box<Cron>),
    Every { first: Timestamp, step: SignedDuration },
}

impl Timetable {
    /// Reads the rule of a schedule that was made at that time.
    ///
    /// # Errors
    /// If a field is wrong, or they contradict each other.
    pub fn read(rule: &Rule, created_at: Timestamp) -> Result<Self, RuleError> {
        let zone = zone(&rule.time_zone)?;
        if rule.jitter_s > MAX_JITTER_S {
            return Err(RuleError::new("jitter_s", format!("must be {MAX_JITTER_S} (a day) at most")));
        }
        if rule.starts_at.zip(rule.ends_at).is_some_and(|(start, end)| start >= end) {
            return Err(RuleError::new("ends_at", "must be after starts_at"));
        }
        let repetition = match (&rule.cron, rule.every_s) {
            (Some(text), None) => Repetition::Cron(Box::new(cron(text)?)),
            (None, Some(seconds)) if (1..=MAX_EVERY_S).contains(&seconds) => Repetition::Every {
                first: rule.starts_at.unwrap_or(created_at),
                step: SignedDuration::from_secs(seconds.into()),
            },
            (None, Some(_)) => {
                return Err(RuleError::new("every_s", format!("must be between 1 and {MAX_EVERY_S} (a year)")));
            }
            (Some(_), Some(_)) => return Err(RuleError::new("every_s", "and cron exclude each other")),
            (None, None) => return Err(RuleError::new("cron", "is missing: give it, or every_s")),
        };
        let jitter = Duration::from_secs(rule.jitter_s.into());
        Ok(Self { repetition, zone, jitter, starts_at: rule.starts_at, ends_at: rule.ends_at })
    }

    /// The first tick after that time; `None` if there is none any more.
    pub fn after(&self, time: Timestamp) -> Option<Timestamp> {
        // A tick at the very start counts.
        let early = self.starts_at.and_then(|start| start.checked_sub(SignedDuration::from_millis(1)).ok());
        let time = early.map_or(time, |early| time.max(early));
        let next = match &self.repetition {
            Repetition::Cron(cron) => {
                // What falls into a gap is given the moment after it, which another tick may have had already.
                let next = cron.find_next_occurrence(&time.to_zoned(self.zone.clone()), false).ok()?.timestamp();
                (next > time).then_some(next)?
            }
            Repetition::Every { first, .. } if time < *first => *first,
            Repetition::Every { first, step } => {
                let passed = time.duration_since(*first).as_millis() / step.as_millis();
                let ms = i64::try_from((passed + 1) * step.as_millis()).ok()?;
                first.checked_add(SignedDuration::from_millis(ms)).ok()?
            }
        };
        (self.ends_at.is_none_or(|end| next <= end)).then_some(next)
    }

    /// The ticks after that time, in order.
    pub fn all_after(&self, time: Timestamp) -> impl Iterator<Item = Timestamp> {
        std::iter::successors(self.after(time), |tick| self.after(*tick))
    }

    /// When the job of a tick is to be made: at the tick, or a while later that is drawn for this tick of this schedule,
    /// the same by whoever asks.
    pub fn due_at(&self, id: &ScheduleId, tick: Timestamp) -> Timestamp {
        let most = u64::try_from(self.jitter.as_millis()).unwrap_or_default();
        if most == 0 {
            return tick;
        }
        let hash = Sha256::new().chain_update(id.as_str()).chain_update(tick.as_millisecond().to_be_bytes()).finalize();
        let drawn = hash[..8].iter().fold(0_u64, |number, byte| (number << 8) | u64::from(*byte)) % (most + 1);
        tick.saturating_add(Duration::from_millis(drawn)).unwrap_or(tick)
    }

    /// The time zone.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }
}

fn zone(name: &str) -> Result<TimeZone, RuleError> {
    // An offset is no zone: it would not follow the clocks of the people there.
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic());
    let zone = is_name.then(|| TimeZone::get(name).ok()).flatten();
    let reason = || RuleError::new("time_zone", "must be the name of an IANA time zone, such as Europe/Paris or UTC");
    zone.ok_or_else(reason)
}

fn cron(text: &str) -> Result<Cron, RuleError> {
    if text.len() > MAX_CRON {
        return Err(RuleError::new("cron", format!("must have {MAX_CRON} characters at most")));
    }
    let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
    parser.parse(text).map_err(|error| {
        let reason = format!(
            "must be a cron expression of five fields, of six with seconds first, or a nickname such as @daily: {error}"
        );
        RuleError::new("cron", reason)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn rule(cron: &str, zone: &str) -> Rule {
        Rule {
            cron: Some(cron.to_owned()),
            every_s: None,
            time_zone: zone.to_owned(),
            jitter_s: 0,
            starts_at: None,
            ends_at: None,
        }
    }

    fn ticks(rule: &Rule, after: &str, count: usize) -> Vec<String> {
        let timetable = Timetable::read(rule, time("2026-01-01T00:00:10Z")).unwrap();
        timetable.all_after(time(after)).take(count).map(|tick| tick.to_string()).collect()
    }

    #[test]
    fn expressions_of_five_and_six_fields_and_nicknames_are_read() {
        let after = "2026-01-31T23:59:58Z";
        for (cron, expected) in [
            ("* * * * *", "2026-02-01T00:00:00Z"),
            ("* * * * * *", "2026-01-31T23:59:59Z"),
            ("*/15 30 2 * * *", "2026-02-01T02:30:00Z"),
            ("0 9 * * MON-FRI", "2026-02-02T09:00:00Z"),
            ("0 0 L * *", "2026-02-28T00:00:00Z"),
            ("0 0 29 2 *", "2028-02-29T00:00:00Z"),
            ("@hourly", "2026-02-01T00:00:00Z"),
            ("@daily", "2026-02-01T00:00:00Z"),
            ("@weekly", "2026-02-01T00:00:00Z"),
            ("@monthly", "2026-02-01T00:00:00Z"),
            ("@yearly", "2027-01-01T00:00:00Z"),
        ] {
            assert_eq!(ticks(&rule(cron, "UTC"), after, 1), [expected], "{cron}");
        }
    }

    #[test]
    fn an_expression_is_read_in_its_zone() {
        let paris = ticks(&rule("0 2 * * *", "Europe/Paris"), "2026-01-10T00:00:00Z", 2);
        assert_eq!(paris, ["2026-01-10T01:00:00Z", "2026-01-11T01:00:00Z"]);
        let kathmandu = ticks(&rule("0 0 * * *", "Asia/Kathmandu"), "2026-01-10T00:00:00Z", 1);
        assert_eq!(kathmandu, ["2026-01-10T18:15:00Z"]);
    }

    #[test]
    fn a_time_that_is_missing_runs_right_after_the_gap_and_one_that_comes_twice_runs_once() {
        // The clock of Paris goes from 02:00 to 03:00 on 29 March 2026.
        let spring = ticks(&rule("30 2 * * *", "Europe/Paris"), "2026-03-28T00:00:00Z", 3);
        assert_eq!(spring, ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]);
        // And from 03:00 to 02:00 on 25 October.
        let autumn = ticks(&rule("30 2 * * *", "Europe/Paris"), "2026-10-24T12:00:00Z", 2);
        assert_eq!(autumn, ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
    }

    #[test]
    fn what_repeats_follows_the_time_that_passes() {
        let spring = ticks(&rule("*/30 * * * *", "Europe/Paris"), "2026-03-29T00:30:00Z", 3);
        assert_eq!(spring, ["2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z", "2026-03-29T02:00:00Z"]);
        let autumn = ticks(&rule("*/30 * * * *", "Europe/Paris"), "2026-10-24T23:30:00Z", 5);
        let expected = ["00:00", "00:30", "01:00", "01:30", "02:00"].map(|hour| format!("2026-10-25T{hour}:00Z"));
        assert_eq!(autumn, expected);
    }

    #[test]
    fn intervals_count_from_their_start() {
        let every = Rule { cron: None, every_s: Some(90), ..rule("", "UTC") };
        assert_eq!(ticks(&every, "2026-01-01T00:00:00Z", 2), ["2026-01-01T00:00:10Z", "2026-01-01T00:01:40Z"]);
        assert_eq!(ticks(&every, "2026-01-01T00:01:40Z", 1), ["2026-01-01T00:03:10Z"]);
        let later = Rule { starts_at: Some(time("2026-02-01T00:00:00Z")), ..every };
        assert_eq!(ticks(&later, "2026-01-01T00:00:00Z", 2), ["2026-02-01T00:00:00Z", "2026-02-01T00:01:30Z"]);
    }

    #[test]
    fn ticks_at_the_bounds_count_and_none_beyond() {
        let bounded = Rule {
            starts_at: Some(time("2026-01-02T00:00:00Z")),
            ends_at: Some(time("2026-01-04T00:00:00Z")),
            ..rule("@daily", "UTC")
        };
        let expected = ["2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z", "2026-01-04T00:00:00Z"];
        assert_eq!(ticks(&bounded, "2026-01-01T00:00:00Z", 10), expected);
    }

    #[test]
    fn a_tick_has_one_time_at_which_it_is_due() {
        let jittered = Rule { jitter_s: 60, ..rule("* * * * *", "UTC") };
        let timetable = Timetable::read(&jittered, time("2026-01-01T00:00:00Z")).unwrap();
        let (one, other) = (ScheduleId::random(), ScheduleId::random());
        let all: Vec<Timestamp> = timetable.all_after(time("2026-01-01T00:00:00Z")).take(200).collect();
        let lateness = |id: &ScheduleId| -> Vec<i64> {
            all.iter().map(|tick| timetable.due_at(id, *tick).duration_since(*tick).as_secs()).collect()
        };
        assert_eq!(lateness(&one), lateness(&one));
        assert_ne!(lateness(&one), lateness(&other));
        assert!(lateness(&one).iter().all(|seconds| (0..=60).contains(seconds)));
        assert!(
            lateness(&one).iter().any(|seconds| *seconds > 40) && lateness(&one).iter().any(|seconds| *seconds < 20)
        );
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_field() {
        let every = |every_s| Rule { cron: None, every_s, ..rule("", "UTC") };
        let start = Some(time("2026-01-01T00:00:00Z"));
        for (field, wrong) in [
            ("cron", rule("", "UTC")),
            ("cron", rule("* * *", "UTC")),
            ("cron", rule("61 * * * *", "UTC")),
            ("cron", rule("@sometimes", "UTC")),
            ("cron", rule("* * * * * * 2027", "UTC")),
            ("cron", rule(&"1,".repeat(200), "UTC")),
            ("cron", rule("é * * * *", "UTC")),
            ("time_zone", rule("* * * * *", "Europe/Pari")),
            ("time_zone", rule("* * * * *", "+02:00")),
            ("time_zone", rule("* * * * *", "../etc/passwd")),
            ("time_zone", rule("* * * * *", "")),
            ("cron", every(None)),
            ("every_s", every(Some(0))),
            ("every_s", every(Some(u32::MAX))),
            ("every_s", Rule { every_s: Some(5), ..rule("* * * * *", "UTC") }),
            ("jitter_s", Rule { jitter_s: 86_401, ..rule("* * * * *", "UTC") }),
            ("ends_at", Rule { starts_at: start, ends_at: start, ..rule("* * * * *", "UTC") }),
        ] {
            let error = Timetable::read(&wrong, time("2026-01-01T00:00:00Z")).unwrap_err();
            assert_eq!(error.field, field, "{wrong:?}: {error}");
        }
        let never = Timetable::read(&rule("0 0 30 2 *", "UTC"), time("2026-01-01T00:00:00Z"));
        assert_eq!(never.map(|timetable| timetable.after(time("2026-01-01T00:00:00Z"))), Ok(None));
    }
}
