//! The platform's own schedules, which keep it in order.

use anyhow::Context as _;
use fourmi_kinds::{HealthProbe, HostMetrics, JobKind, KindInfo, MaintenanceRetention, StatsRollup, catalogue};
use fourmi_model::{Missed, Overlap, Rule, ScheduleId, ScheduledJob, Submission};
use fourmi_records::{Records, Schedule, Standing};
use fourmi_timetable::{OrderForm, Timetable};
use jiff::Timestamp;
use serde_json::{json, value::to_raw_value};

/// A minute in seconds.
const MINUTE: u32 = 60;

/// A chore: its name, its kind, and when it is due.
struct Chore {
    name: &'static str,
    kind: &'static str,
    cron: Option<&'static str>,
    every_s: Option<u32>,
    jitter_s: u32,
}

/// At night, away from full hours, when everybody else begins.
const CHORES: [Chore; 4] = [
    Chore {
        name: "fourmi.retention",
        kind: MaintenanceRetention::NAME,
        cron: Some("10 3 * * *"),
        every_s: None,
        jitter_s: 10 * MINUTE,
    },
    every_minute("fourmi.rollup", StatsRollup::NAME),
    every_minute("fourmi.health", HealthProbe::NAME),
    every_minute("fourmi.host", HostMetrics::NAME),
];

const fn every_minute(name: &'static str, kind: &'static str) -> Chore {
    Chore { name, kind, cron: None, every_s: Some(MINUTE), jitter_s: 0 }
}

/// Adds those of the platform's schedules that are not there. One that somebody has changed or paused stays as it is.
///
/// # Errors
/// If the records do not answer, or refuse.
pub async fn add_chores(records: &Records, now: Timestamp) -> anyhow::Result<()> {
    for chore in CHORES {
        let schedule = schedule(&chore, now).with_context(|| format!("the schedule {}", chore.name))?;
        if records.add_schedule(&schedule).await? {
            tracing::info!(schedule.name = chore.name, "the platform's own schedule is made");
        }
    }
    Ok(())
}

fn schedule(chore: &Chore, now: Timestamp) -> anyhow::Result<Schedule> {
    let created_at = Timestamp::from_millisecond(now.as_millisecond())?;
    let rule = Rule {
        cron: chore.cron.map(str::to_owned),
        every_s: chore.every_s,
        time_zone: "UTC".to_owned(),
        jitter_s: chore.jitter_s,
        starts_at: None,
        ends_at: None,
    };
    let timetable = Timetable::read(&rule, created_at)?;
    let kind = catalogue().get(chore.kind).context("there is no such kind")?;
    let id = ScheduleId::random();
    let next_tick = timetable.after(now);
    let due_at = next_tick.map(|tick| timetable.due_at(&id, tick));
    Ok(Schedule {
        id,
        version: 1,
        tenant: None,
        name: chore.name.to_owned(),
        own_only: false,
        rule,
        overlap: Overlap::Skip,
        missed: Missed::Once,
        missed_limit: 1,
        paused: false,
        job: job(kind)?,
        order_form: serde_json::to_string(&order_form(kind)?)?,
        standing: Standing { next_tick, due_at, ..Standing::default() },
        created_at,
        created_by: "platform".to_owned(),
    })
}

fn job(kind: &KindInfo) -> Result<ScheduledJob, serde_json::Error> {
    serde_json::from_value(json!({ "kind": kind.name, "payload": {} }))
}

fn order_form(kind: &KindInfo) -> Result<OrderForm, serde_json::Error> {
    let mut submission = Submission::new(kind.name.clone(), to_raw_value(&json!({}))?);
    submission.priority = kind.policy.priority;
    submission.envelope.schema_version = kind.schema_version;
    submission.envelope.submitted_by = Some("platform".to_owned());
    submission.note(&kind.policy);
    Ok(OrderForm::of(kind.queue.clone(), &submission))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chores_are_what_the_api_would_take() {
        for chore in CHORES {
            let schedule = schedule(&chore, Timestamp::now()).unwrap();
            assert!(schedule.standing.due_at > Some(Timestamp::now()), "{}", chore.name);
            let kind = catalogue().get(schedule.job.kind.as_str()).unwrap();
            assert_eq!(kind.check(&schedule.job.payload.to_string()).unwrap().get(), "{}", "{}", chore.name);
        }
    }
}
