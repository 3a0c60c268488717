//! Schedules, and what became of their ticks.

use fourmi_model::{FireOutcome, JobId, Missed, Overlap, Rule, ScheduleFire, ScheduleId, ScheduledJob, TenantName};
use jiff::Timestamp;

use crate::{
    Records, RecordsError,
    row::{Cells, Columns, json},
    statement::{Statement, query_of},
    store::{reading, writing},
};

/// A schedule, as it is kept. Times are kept to the millisecond.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// Its id; never changes.
    pub id: ScheduleId,
    /// Grows with every change that somebody asks for: a change is made only to the schedule that was read.
    pub version: i64,
    /// The tenant whose jobs it makes; never changes.
    pub tenant: Option<TenantName>,
    /// Its name, of which a tenant has one.
    pub name: String,
    /// Whether whoever made it sees their own jobs alone; never changes.
    pub own_only: bool,
    /// When it is due.
    pub rule: Rule,
    /// What it does while the job of an earlier tick is not over.
    pub overlap: Overlap,
    /// What it does about ticks for which nobody was there.
    pub missed: Missed,
    /// How many of those make a job, if all may.
    pub missed_limit: u32,
    /// Whether it makes no jobs.
    pub paused: bool,
    /// The job that it makes, as its owner said.
    pub job: ScheduledJob,
    /// What the kind says of that job, for whoever makes it.
    pub order_form: String,
    /// Where it stands.
    pub standing: Standing,
    /// When it was made; never changes.
    pub created_at: Timestamp,
    /// The id of who made it; never changes.
    pub created_by: String,
}

/// Where a schedule stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// The tick that nobody has dealt with yet; `None` if there is none any more, or it is paused.
    pub next_tick: Option<Timestamp>,
    /// When the job of that tick is to be made.
    pub due_at: Option<Timestamp>,
    /// The newest tick that made a job.
    pub last_fired_at: Option<Timestamp>,
    /// The newest job.
    pub last_job: Option<JobId>,
}

/// What was done about the next ticks of a schedule.
#[derive(Debug, Clone)]
pub struct Firing {
    /// The schedule.
    pub id: ScheduleId,
    /// Its version when it was read.
    pub version: i64,
    /// The next tick when it was read.
    pub tick: Timestamp,
    /// Where it stands from now on.
    pub then: Standing,
    /// What became of each tick.
    pub fires: Vec<ScheduleFire>,
}

const ADD: &str = "\
INSERT INTO schedules (id, version, tenant, name, own_only, rule, overlap, missed, missed_limit, paused, job, order_form, \
  next_tick, due_at, last_fired_at, last_job, created_at, created_by) \
VALUES ($1, $2, $3, $4, $5 <> 0, $6, $7, $8, $9, $10 <> 0, $11, $12, $13, $14, $15, $16, $17, $18) \
ON CONFLICT (tenant, name) DO NOTHING";

const CHANGE: &str = "\
UPDATE schedules SET version = version + 1, name = $3, rule = $4, overlap = $5, missed = $6, missed_limit = $7, \
  paused = $8 <> 0, job = $9, order_form = $10, next_tick = $11, due_at = $12 \
WHERE id = $1 AND version = $2 AND NOT EXISTS ( \
  SELECT 1 FROM schedules other WHERE other.tenant = schedules.tenant AND other.name = $3 AND other.id <> $1)";

/// Every schedule whose job is to be made, the longest due first.
const DUE: &str = "\
SELECT * FROM schedules WHERE due_at <= $1 AND next_tick IS NOT NULL ORDER BY due_at, id LIMIT $2";

const NEXT_DUE: &str = "SELECT min(due_at) AS due_at, '' AS id FROM schedules WHERE due_at IS NOT NULL";

/// Moves on from a tick, unless somebody else has.
const MOVE_ON: &str = "\
UPDATE schedules SET next_tick = $4, due_at = $5, last_fired_at = coalesce($6, last_fired_at), last_job = coalesce($7, last_job) \
WHERE id = $1 AND version = $2 AND next_tick = $3";

/// A job that was made by who came too late to move on: the next tick must know of it.
const MADE: &str = "\
UPDATE schedules SET last_fired_at = $2, last_job = $3 WHERE id = $1 AND (last_fired_at IS NULL OR last_fired_at < $2)";

/// A job that was made is never taken for none, whoever comes last.
const NOTE_FIRE: &str = "\
INSERT INTO schedule_fires (schedule_id, tick, by_hand, outcome, at, job, error) VALUES ($1, $2, $3 <> 0, $4, $5, $6, $7) \
ON CONFLICT (schedule_id, tick, by_hand) DO UPDATE SET outcome = excluded.outcome, at = excluded.at, job = excluded.job, \
  error = excluded.error \
WHERE schedule_fires.job IS NULL AND excluded.job IS NOT NULL";

const FIRES: &str = "\
SELECT schedule_id AS id, tick, by_hand, outcome, at, job, error FROM schedule_fires \
WHERE schedule_id = $1 AND tick < $2 ORDER BY tick DESC, by_hand DESC LIMIT $3";

/// Fires beyond the newest ones of each schedule, and those of schedules that are gone.
const FORGET: &str = "\
DELETE FROM schedule_fires WHERE (schedule_id, tick) IN ( \
  SELECT schedule_id, tick FROM ( \
    SELECT schedule_id, tick, row_number() OVER (PARTITION BY schedule_id ORDER BY tick DESC) AS place FROM schedule_fires \
  ) AS placed \
  WHERE place > $1 OR NOT EXISTS (SELECT 1 FROM schedules WHERE schedules.id = placed.schedule_id) LIMIT $2)";

impl Records {
    /// Adds a schedule; `false` if its tenant has one of this name.
    ///
    /// # Errors
    /// If the database does not answer, or refuses.
    pub async fn add_schedule(&self, schedule: &Schedule) -> Result<bool, RecordsError> {
        let Standing { next_tick, due_at, last_fired_at, last_job } = &schedule.standing;
        let add = Statement::of(ADD)
            .with(schedule.id.as_str())
            .with(schedule.version)
            .with(schedule.tenant.as_ref().map_or("", TenantName::as_str))
            .with(schedule.name.as_str())
            .with(i64::from(schedule.own_only))
            .with(&*json(&schedule.rule))
            .with(schedule.overlap.as_str())
            .with(schedule.missed.as_str())
            .with(i64::from(schedule.missed_limit))
            .with(i64::from(schedule.paused))
            .with(&*json(&schedule.job))
            .with(schedule.order_form.as_str())
            .with(*next_tick)
            .with(*due_at)
            .with(*last_fired_at)
            .with(last_job.as_ref().map(ToString::to_string).as_deref())
            .with(schedule.created_at)
            .with(schedule.created_by.as_str());
        writing!(self, |db| query_of!(add).execute(db).await?.rows_affected() > 0)
    }

    /// A schedule by its id.
    ///
    /// # Errors
    /// If the database does not answer, or the schedule cannot be read.
    pub async fn schedule(&self, id: &ScheduleId) -> Result<Option<Schedule>, RecordsError> {
        let question = Statement::of("SELECT * FROM schedules WHERE id = $1").with(id.as_str());
        reading!(self, |db| query_of!(question).fetch_optional(db).await?.map(|row| schedule(&row)).transpose()?)
    }

    /// Schedules in the order in which they were made, those after one: of a tenant, or of all, of a creator, or of all, of a
    /// name, or of all.
    ///
    /// # Errors
    /// If the database does not answer, or a schedule cannot be read.
    pub async fn schedules(
        &self,
        tenant: Option<&TenantName>,
        creator: Option<&str>,
        name: Option<&str>,
        after: Option<&ScheduleId>,
        limit: usize,
    ) -> Result<Vec<Schedule>, RecordsError> {
        let mut question = Statement::of("SELECT * FROM schedules WHERE id > ");
        question.bind(after.map_or("", ScheduleId::as_str));
        for (column, value) in [("tenant", tenant.map(TenantName::as_str)), ("created_by", creator), ("name", name)] {
            if let Some(value) = value {
                question.push(format_args!(" AND {column} = ")).bind(value);
            }
        }
        question.push(" ORDER BY id LIMIT ").bind(i64::try_from(limit).unwrap_or(i64::MAX));
        reading!(self, |db| {
            let rows = query_of!(question).fetch_all(db).await?;
            rows.iter().map(|row| schedule(row)).collect::<Result<_, _>>()?
        })
    }

    /// How many schedules a tenant has, and how many there are in all.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn schedule_counts(&self, tenant: Option<&TenantName>) -> Result<(u64, u64), RecordsError> {
        const COUNTS: &str = "\
SELECT $1 AS id, (SELECT count(*) FROM schedules WHERE tenant = $1) AS own, (SELECT count(*) FROM schedules) AS total";
        let question = Statement::of(COUNTS).with(tenant.map_or("", TenantName::as_str));
        reading!(self, |db| {
            let row = query_of!(question).fetch_one(db).await?;
            let row = Columns::of("schedules of", &row)?;
            (row.number("own")?, row.number("total")?)
        })
    }

    /// Replaces what may change of a schedule (its name, rule, policies, pause, job, next tick and when that is due), and
    /// raises its version by one. `false` if it is not at the version that `schedule` has, is gone, or another of its tenant
    /// has the name.
    ///
    /// # Errors
    /// If the database does not answer, or refuses.
    pub async fn change_schedule(&self, schedule: &Schedule) -> Result<bool, RecordsError> {
        let change = Statement::of(CHANGE)
            .with(schedule.id.as_str())
            .with(schedule.version)
            .with(schedule.name.as_str())
            .with(&*json(&schedule.rule))
            .with(schedule.overlap.as_str())
            .with(schedule.missed.as_str())
            .with(i64::from(schedule.missed_limit))
            .with(i64::from(schedule.paused))
            .with(&*json(&schedule.job))
            .with(schedule.order_form.as_str())
            .with(schedule.standing.next_tick)
            .with(schedule.standing.due_at);
        writing!(self, |db| query_of!(change).execute(db).await?.rows_affected() > 0)
    }

    /// Removes a schedule and what became of its ticks. `false` if it is not there.
    ///
    /// # Errors
    /// If the database does not answer, or refuses.
    pub async fn remove_schedule(&self, id: &ScheduleId) -> Result<bool, RecordsError> {
        let remove = Statement::of("DELETE FROM schedules WHERE id = $1").with(id.as_str());
        let forget = Statement::of("DELETE FROM schedule_fires WHERE schedule_id = $1").with(id.as_str());
        writing!(self, |db| {
            let removed = query_of!(remove).execute(&mut *db).await?.rows_affected() > 0;
            query_of!(forget).execute(&mut *db).await?;
            removed
        })
    }

    /// The schedules whose job is to be made now, the longest due first.
    ///
    /// # Errors
    /// If the database does not answer, or a schedule cannot be read.
    pub async fn due_schedules(&self, now: Timestamp, limit: usize) -> Result<Vec<Schedule>, RecordsError> {
        let question = Statement::of(DUE).with(now).with(i64::try_from(limit).unwrap_or(i64::MAX));
        reading!(self, |db| {
            let rows = query_of!(question).fetch_all(db).await?;
            rows.iter().map(|row| schedule(row)).collect::<Result<_, _>>()?
        })
    }

    /// When the next job of a schedule is to be made; `None` if there is none to be made any more.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn next_schedule_due(&self) -> Result<Option<Timestamp>, RecordsError> {
        reading!(self, |db| {
            let row = sqlx::query(NEXT_DUE).fetch_one(db).await?;
            Columns::of("schedules", &row)?.time("due_at")?
        })
    }

    /// Notes what was done about ticks, of all these schedules or of none. Each moves on if it still stands at the tick that
    /// was read; whether it does, in order.
    ///
    /// # Errors
    /// If the database does not answer, or refuses.
    pub async fn schedules_fired(&self, firings: &[Firing]) -> Result<Vec<bool>, RecordsError> {
        // Two who note the same schedules in different orders would wait for each other.
        let mut order: Vec<usize> = (0..firings.len()).collect();
        order.sort_by(|a, b| firings[*a].id.cmp(&firings[*b].id));
        writing!(self, |db| {
            let mut moved = vec![false; firings.len()];
            for &place in &order {
                let firing = &firings[place];
                moved[place] = query_of!(move_on(firing)).execute(&mut *db).await?.rows_affected() > 0;
                if let Some(made) = made(firing).filter(|_| !moved[place]) {
                    query_of!(made).execute(&mut *db).await?;
                }
                for fire in &firing.fires {
                    query_of!(note_fire(&firing.id, fire)).execute(&mut *db).await?;
                }
            }
            moved
        })
    }

    /// Notes a job that a schedule was asked for by hand.
    ///
    /// # Errors
    /// If the database does not answer, or refuses.
    pub async fn schedule_ran(&self, id: &ScheduleId, fire: &ScheduleFire) -> Result<(), RecordsError> {
        let job = fire.job.as_ref().map(ToString::to_string);
        let last = Statement::of("UPDATE schedules SET last_job = coalesce($2, last_job) WHERE id = $1");
        let last = last.with(id.as_str()).with(job.as_deref());
        writing!(self, |db| {
            query_of!(last).execute(&mut *db).await?;
            query_of!(note_fire(id, fire)).execute(&mut *db).await.map(drop)?;
        })
    }

    /// What became of the newest ticks of a schedule before that time, newest first.
    ///
    /// # Errors
    /// If the database does not answer, or one cannot be read.
    pub async fn schedule_fires(
        &self,
        id: &ScheduleId,
        before: Option<Timestamp>,
        limit: usize,
    ) -> Result<Vec<ScheduleFire>, RecordsError> {
        let question = Statement::of(FIRES)
            .with(id.as_str())
            .with(before.map_or(i64::MAX, Timestamp::as_millisecond))
            .with(i64::try_from(limit).unwrap_or(i64::MAX));
        reading!(self, |db| {
            let rows = query_of!(question).fetch_all(db).await?;
            rows.iter().map(|row| fire(row)).collect::<Result<_, _>>()?
        })
    }

    /// Forgets what became of ticks, but for the `kept` newest of each schedule; `limit` of them at most. Gives how many.
    ///
    /// # Errors
    /// If the database does not answer, or refuses.
    pub async fn forget_fires(&self, kept: u32, limit: u32) -> Result<u64, RecordsError> {
        let forget = Statement::of(FORGET).with(i64::from(kept)).with(i64::from(limit));
        writing!(self, |db| query_of!(forget).execute(db).await?.rows_affected())
    }
}

fn move_on(firing: &Firing) -> Statement {
    Statement::of(MOVE_ON)
        .with(firing.id.as_str())
        .with(firing.version)
        .with(firing.tick)
        .with(firing.then.next_tick)
        .with(firing.then.due_at)
        .with(firing.then.last_fired_at)
        .with(firing.then.last_job.as_ref().map(ToString::to_string).as_deref())
}

fn made(firing: &Firing) -> Option<Statement> {
    let (tick, job) = (firing.then.last_fired_at?, firing.then.last_job.as_ref()?);
    Some(Statement::of(MADE).with(firing.id.as_str()).with(tick).with(&*job.to_string()))
}

fn note_fire(id: &ScheduleId, fire: &ScheduleFire) -> Statement {
    Statement::of(NOTE_FIRE)
        .with(id.as_str())
        .with(fire.tick)
        .with(i64::from(fire.by_hand))
        .with(fire.outcome.as_str())
        .with(fire.at)
        .with(fire.job.as_ref().map(ToString::to_string).as_deref())
        .with(fire.error.as_deref())
}

fn schedule(row: &dyn Cells) -> Result<Schedule, RecordsError> {
    let row = Columns::of("schedule", row)?;
    let tenant: String = row.text("tenant")?.unwrap_or_default();
    Ok(Schedule {
        id: row.word("id")?,
        version: row.number("version")?,
        // One that cannot be read must not become a schedule of no tenant.
        tenant: if tenant.is_empty() { None } else { row.optional_word("tenant")? },
        name: row.word("name")?,
        own_only: row.flag("own_only")?,
        rule: row.needed_json("rule")?,
        overlap: row.word("overlap")?,
        missed: row.word("missed")?,
        missed_limit: row.number("missed_limit")?,
        paused: row.flag("paused")?,
        job: row.needed_json("job")?,
        order_form: row.word("order_form")?,
        standing: Standing {
            next_tick: row.time("next_tick")?,
            due_at: row.time("due_at")?,
            last_fired_at: row.time("last_fired_at")?,
            last_job: row.optional_word("last_job")?,
        },
        created_at: row.time("created_at")?.unwrap_or_default(),
        created_by: row.word("created_by")?,
    })
}

fn fire(row: &dyn Cells) -> Result<ScheduleFire, RecordsError> {
    let row = Columns::of("fire of", row)?;
    Ok(ScheduleFire {
        tick: row.time("tick")?.unwrap_or_default(),
        by_hand: row.flag("by_hand")?,
        outcome: row.word::<FireOutcome>("outcome")?,
        at: row.time("at")?.unwrap_or_default(),
        job: row.optional_word("job")?,
        error: row.text("error")?,
    })
}
