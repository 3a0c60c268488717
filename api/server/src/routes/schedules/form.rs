//! A schedule as its owner writes it, and what is checked of it.

use fourmi_model::{MAX_TAGS, Missed, Overlap, Rule, ScheduleId, ScheduleInfo, ScheduledJob, TenantName};
use fourmi_records::{Schedule, Standing};
use fourmi_timetable::{OrderForm, Tick, Timetable, fill};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::value::to_raw_value;

use crate::{
    caller::Caller,
    problem::{Code, Problem},
    routes::{
        jobs::Jobs,
        submission::{JobSubmission, check_label, invalid},
    },
};

/// The longest name, in characters: with `schedule:` before it, it is a tag.
const MAX_NAME_CHARS: usize = 50;

/// The most missed ticks that make a job.
const MAX_MISSED: u32 = 1_000;

/// A schedule to be made, or as it is to be.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ScheduleForm {
    /// Its name, of which a tenant has one. Its jobs have the tag `schedule:` and this name.
    #[schemars(length(min = 1, max = 50))]
    pub(super) name: String,
    /// A cron expression of five fields, of six with seconds first, or a nickname such as `@daily`. Either this or `every_s`.
    #[serde(default)]
    #[schemars(length(max = 256))]
    cron: Option<String>,
    /// Seconds between two ticks.
    #[serde(default)]
    #[schemars(range(min = 1, max = 31_622_400))]
    every_s: Option<u32>,
    /// The IANA time zone in which the expression is read; by default UTC.
    #[serde(default = "utc")]
    time_zone: String,
    /// How many seconds a job may be made after its tick, drawn for each tick.
    #[serde(default)]
    #[schemars(range(max = 86_400))]
    jitter_s: u32,
    /// No tick is before this time. Of `every_s` it is the first.
    #[serde(default)]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    starts_at: Option<Timestamp>,
    /// No tick is after this time.
    #[serde(default)]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    ends_at: Option<Timestamp>,
    /// What it does while the job of an earlier tick is not over.
    #[serde(default)]
    overlap: Overlap,
    /// What it does about ticks for which nobody was there: they are more than a minute late.
    #[serde(default)]
    missed: Missed,
    /// How many of those make a job, if `missed` is `all`: the newest.
    #[serde(default = "ten")]
    #[schemars(range(min = 1, max = 1_000))]
    missed_limit: u32,
    /// Whether it makes no jobs.
    #[serde(default)]
    paused: bool,
    /// The tenant whose jobs it makes, if you are bound to none.
    #[serde(default)]
    tenant: Option<TenantName>,
    /// The job that it makes.
    job: ScheduledJob,
}

fn utc() -> String {
    "UTC".to_owned()
}

const fn ten() -> u32 {
    10
}

impl ScheduleForm {
    /// The tenant of the schedule: the caller's; the one that is named, if the caller is bound to none.
    ///
    /// # Errors
    /// If it is another's, or there is none of this name.
    pub(super) async fn tenant(&self, jobs: &Jobs, caller: &Caller) -> Result<Option<TenantName>, Problem> {
        match (caller.tenant(), &self.tenant) {
            (Some(own), Some(named)) if own != named => {
                Err(Problem::field(Code::ForeignTenant, "tenant", format!("must be {own}, or left out")))
            }
            (Some(own), _) => Ok(Some(own.clone())),
            (None, Some(named)) if jobs.records.tenant(named).await?.is_none() => {
                Err(Problem::field(Code::UnknownTenant, "tenant", format!("there is no tenant {named}")))
            }
            (None, named) => Ok(named.clone()),
        }
    }

    /// The schedule, as a new one.
    ///
    /// # Errors
    /// The first mistake, by the path of its field.
    pub(super) async fn make(
        self,
        jobs: &Jobs,
        caller: &Caller,
        tenant: Option<TenantName>,
        now: Timestamp,
    ) -> Result<Schedule, Problem> {
        let created_at = Timestamp::from_millisecond(now.as_millisecond()).map_err(Problem::internal)?;
        let blank = Schedule {
            id: ScheduleId::random(),
            version: 1,
            tenant,
            own_only: caller.own_only(),
            standing: Standing::default(),
            created_at,
            created_by: caller.id().to_owned(),
            name: String::new(),
            rule: Rule {
                cron: None,
                every_s: None,
                time_zone: String::new(),
                jitter_s: 0,
                starts_at: None,
                ends_at: None,
            },
            overlap: Overlap::default(),
            missed: Missed::default(),
            missed_limit: 0,
            paused: true,
            job: self.job.clone(),
            order_form: String::new(),
        };
        self.replace(jobs, caller, blank, now).await
    }

    /// The schedule as it is to be, in the place of `before`.
    ///
    /// # Errors
    /// The first mistake, by the path of its field.
    pub(super) async fn replace(
        self,
        jobs: &Jobs,
        caller: &Caller,
        before: Schedule,
        now: Timestamp,
    ) -> Result<Schedule, Problem> {
        check_label("name", &self.name, MAX_NAME_CHARS)?;
        if !(1..=MAX_MISSED).contains(&self.missed_limit) {
            return Err(invalid("missed_limit", format!("must be between 1 and {MAX_MISSED}")));
        }
        let rule = Rule {
            cron: self.cron,
            every_s: self.every_s,
            time_zone: self.time_zone,
            jitter_s: self.jitter_s,
            starts_at: self.starts_at,
            ends_at: self.ends_at,
        };
        let timetable =
            Timetable::read(&rule, before.created_at).map_err(|error| invalid(error.field, error.reason))?;
        if rule != before.rule {
            check_comes(&rule, before.created_at, now)?;
        }
        let order_form = order_form(jobs, caller, before.tenant.as_ref(), &self.job, &timetable, now).await?;
        let goes_on = before.rule == rule && !before.paused && before.standing.next_tick.is_some();
        let mut schedule = Schedule {
            name: self.name,
            rule,
            overlap: self.overlap,
            missed: self.missed,
            missed_limit: self.missed_limit,
            paused: self.paused,
            job: self.job,
            order_form: serde_json::to_string(&order_form).map_err(Problem::internal)?,
            ..before
        };
        if schedule.paused {
            stand_still(&mut schedule);
        } else if !goes_on {
            stand_after(&mut schedule, &timetable, now);
        }
        Ok(schedule)
    }
}

/// Refuses a rule by which no tick comes from now on. One that stays as it is may have run out.
fn check_comes(rule: &Rule, created_at: Timestamp, now: Timestamp) -> Result<(), Problem> {
    let comes = |rule: &Rule| Timetable::read(rule, created_at).is_ok_and(|timetable| timetable.after(now).is_some());
    if comes(rule) {
        return Ok(());
    }
    let field = match rule {
        _ if comes(&Rule { ends_at: None, ..rule.clone() }) => "ends_at",
        Rule { cron: Some(_), .. } => "cron",
        _ => "every_s",
    };
    Err(invalid(field, "no tick would ever come"))
}

/// From now on no tick comes.
pub(super) fn stand_still(schedule: &mut Schedule) {
    (schedule.standing.next_tick, schedule.standing.due_at) = (None, None);
}

/// The next tick is the first after that time.
pub(super) fn stand_after(schedule: &mut Schedule, timetable: &Timetable, time: Timestamp) {
    let next = timetable.after(time);
    schedule.standing.next_tick = next;
    schedule.standing.due_at = next.map(|next| timetable.due_at(&schedule.id, next));
}

/// When the schedule is due, of one that was found right before.
pub(super) fn timetable(schedule: &Schedule) -> Result<Timetable, Problem> {
    Timetable::read(&schedule.rule, schedule.created_at).map_err(Problem::internal)
}

/// What is known of its jobs: they are checked as if one were submitted now.
async fn order_form(
    jobs: &Jobs,
    caller: &Caller,
    tenant: Option<&TenantName>,
    job: &ScheduledJob,
    timetable: &Timetable,
    now: Timestamp,
) -> Result<OrderForm, Problem> {
    let within = |problem: Problem| problem.within("job");
    if job.tags.len() >= MAX_TAGS {
        return Err(within(invalid("tags", format!("must be {} at most", MAX_TAGS - 1))));
    }
    if job.deadline_s == Some(0) {
        return Err(within(invalid("deadline_s", "must be 1 at least")));
    }
    let tick = Tick { at: now, window_start: now, zone: timetable.zone().clone() };
    let payload = fill(&job.payload, &tick).map_err(|name| {
        let names = "{{tick}}, {{tick_local}}, {{tick_ms}}, {{window_start}} and {{window_end}}";
        within(invalid("payload", format!("names {{{{{name}}}}}; there are {names}")))
    })?;
    let payload = to_raw_value(&payload).map_err(Problem::internal)?;
    let sample = JobSubmission {
        kind: job.kind.to_string(),
        payload: &payload,
        priority: job.priority,
        not_before: None,
        deadline: None,
        policy: job.policy.clone(),
        tags: job.tags.clone(),
        correlation_id: None,
        idempotency_key: None,
        idempotency_ttl_s: None,
        tenant: tenant.cloned(),
        limits: job.limits.clone(),
        unique: job.unique.clone(),
        name: None,
        after: Vec::new(),
        on_parent_failure: fourmi_model::ParentFailure::default(),
        webhook: job.webhook.clone(),
    };
    let (id, submission) = sample.check(&jobs.kinds, jobs, caller, None).await.map_err(within)?;
    Ok(OrderForm::of(id.queue().clone(), &submission))
}

/// The schedule as everyone reads it.
pub(super) fn document(schedule: Schedule) -> ScheduleInfo {
    ScheduleInfo {
        id: schedule.id,
        name: schedule.name,
        rule: schedule.rule,
        overlap: schedule.overlap,
        missed: schedule.missed,
        missed_limit: schedule.missed_limit,
        paused: schedule.paused,
        job: schedule.job,
        tenant: schedule.tenant,
        next_tick_at: schedule.standing.next_tick,
        last_fired_at: schedule.standing.last_fired_at,
        last_job: schedule.standing.last_job,
        created_at: schedule.created_at,
        created_by: schedule.created_by,
    }
}
