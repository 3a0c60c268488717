//! Which ticks of a schedule have come, and which of them make a job.

use std::time::Duration;

use fourmi_model::Missed;
use fourmi_records::Schedule;
use fourmi_timetable::Timetable;
use jiff::Timestamp;

/// How late the job of a tick may be made before the tick counts as missed.
const GRACE: Duration = Duration::from_secs(60);

/// The most ticks that are looked at together. Of more, the older ones are forgotten.
const MOST: usize = 10_000;

/// The most ticks without a job that are noted.
const NOTED: usize = 100;

/// What is to be done about the ticks that have come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Ticks that make a job, unless an earlier one is not over; in order.
    pub(crate) fire: Vec<Timestamp>,
    /// The newest ticks for which nobody was there; in order.
    pub(crate) missed: Vec<Timestamp>,
    /// The next tick.
    pub(crate) next: Option<Timestamp>,
}

impl Plan {
    /// What is to be done now about a schedule that stands at `tick`.
    pub(crate) fn of(schedule: &Schedule, timetable: &Timetable, tick: Timestamp, now: Timestamp) -> Self {
        let is_due = |tick: &Timestamp| timetable.due_at(&schedule.id, *tick) <= now;
        let (come, next) = come(timetable, tick, now, is_due);
        let too_late = now.saturating_sub(GRACE).unwrap_or(Timestamp::MIN);
        let late = come.partition_point(|tick| timetable.due_at(&schedule.id, *tick) < too_late);
        let made_up_for = match schedule.missed {
            Missed::Skip => 0,
            Missed::Once => 1,
            Missed::All => usize::try_from(schedule.missed_limit).unwrap_or(usize::MAX),
        };
        let given_up = late.saturating_sub(made_up_for);
        Self { fire: come[given_up..].to_vec(), missed: come[given_up.saturating_sub(NOTED)..given_up].to_vec(), next }
    }
}

/// The ticks from `first` on that are due, in order, the newest [`MOST`] at most; and the next one.
fn come(
    timetable: &Timetable,
    first: Timestamp,
    now: Timestamp,
    is_due: impl Fn(&Timestamp) -> bool,
) -> (Vec<Timestamp>, Option<Timestamp>) {
    let mut start = Some(first);
    loop {
        let mut come = Vec::new();
        while let Some(tick) = start.filter(&is_due) {
            come.push(tick);
            start = timetable.after(tick);
            if come.len() > MOST {
                break;
            }
        }
        let (Some(oldest), Some(newest)) = (come.first(), come.last()) else { return (come, start) };
        if come.len() <= MOST {
            return (come, start);
        }
        // As many ticks as these lie within such a time; half of it is on the safe side.
        let span = newest.duration_since(*oldest) / 2;
        let from = now.checked_sub(span).unwrap_or(*newest).max(*newest);
        start = timetable.after(from);
    }
}

#[cfg(test)]
mod tests {
    use fourmi_model::{Overlap, Rule, ScheduleId};
    use fourmi_records::Standing;
    use serde_json::json;

    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn plan(cron: &str, missed: Missed, tick: &str, now: &str) -> Plan {
        let rule = Rule {
            cron: Some(cron.to_owned()),
            every_s: None,
            time_zone: "UTC".to_owned(),
            jitter_s: 0,
            starts_at: None,
            ends_at: None,
        };
        let timetable = Timetable::read(&rule, time("2026-01-01T00:00:00Z")).unwrap();
        let schedule = Schedule {
            id: ScheduleId::random(),
            version: 1,
            tenant: None,
            name: "test".to_owned(),
            own_only: false,
            rule,
            overlap: Overlap::Allow,
            missed,
            missed_limit: 3,
            paused: false,
            job: serde_json::from_value(json!({ "kind": "test.echo", "payload": {} })).unwrap(),
            order_form: String::new(),
            standing: Standing::default(),
            created_at: time("2026-01-01T00:00:00Z"),
            created_by: "key".to_owned(),
        };
        Plan::of(&schedule, &timetable, time(tick), time(now))
    }

    #[test]
    fn a_tick_that_has_come_makes_a_job_and_the_next_is_waited_for() {
        let plan = plan("@hourly", Missed::Skip, "2026-01-01T05:00:00Z", "2026-01-01T05:00:30Z");
        let [five, six] = ["2026-01-01T05:00:00Z", "2026-01-01T06:00:00Z"].map(time);
        assert_eq!(plan, Plan { fire: vec![five], missed: vec![], next: Some(six) });
    }

    #[test]
    fn ticks_of_the_last_minute_all_make_a_job() {
        for missed in [Missed::Skip, Missed::Once, Missed::All] {
            let plan = plan("* * * * * *", missed, "2026-01-01T05:00:00Z", "2026-01-01T05:00:59Z");
            assert_eq!((plan.fire.len(), plan.missed.len()), (60, 0), "{missed}");
        }
    }

    #[test]
    fn of_those_that_were_missed_as_many_make_a_job_as_the_policy_says() {
        let (tick, now) = ("2026-01-01T05:00:00Z", "2026-01-01T10:30:00Z");
        let hours = |hours: std::ops::RangeInclusive<u8>| -> Vec<Timestamp> {
            hours.map(|hour| time(&format!("2026-01-01T{hour:02}:00:00Z"))).collect()
        };
        for (missed, fire, not) in [
            (Missed::Skip, vec![], hours(5..=10)),
            (Missed::Once, hours(10..=10), hours(5..=9)),
            (Missed::All, hours(8..=10), hours(5..=7)),
        ] {
            let next = Some(time("2026-01-01T11:00:00Z"));
            assert_eq!(plan("@hourly", missed, tick, now), Plan { fire, missed: not, next }, "{missed}");
        }
    }

    #[test]
    fn after_a_year_away_a_schedule_of_every_second_is_dealt_with_at_once() {
        let begun = std::time::Instant::now();
        let plan = plan("* * * * * *", Missed::Once, "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z");
        assert_eq!(plan.missed.len(), NOTED);
        // The last minute, and one for all that was missed.
        assert_eq!((plan.fire.len(), plan.fire.last().copied()), (62, Some(time("2027-01-01T00:00:00Z"))));
        assert_eq!(plan.next, Some(time("2027-01-01T00:00:01Z")));
        assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
    }
}
