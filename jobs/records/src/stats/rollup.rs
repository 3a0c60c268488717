//! Adding up minutes, hours and days.

use std::collections::BTreeMap;

use fourmi_model::StatStep;
use futures_util::TryStreamExt;
use jiff::{SignedDuration, Timestamp};

use super::{GONE, MINUTE, tally::Tally};
use crate::{
    Records, RecordsError,
    row::{Cells, Columns, json},
    statement::{Statement, query_of},
    store::{Change, reading, writing},
};

const HOUR: i64 = 60 * MINUTE;

/// A minute is added up when it has been over for so long, in milliseconds: jobs are recorded within a second, as a rule.
const SETTLED: i64 = 10_000;

/// How long minutes and hours are kept; days are for ever.
const KEPT: [(StatStep, &str, SignedDuration); 2] = [
    (StatStep::Minute, "minutes", SignedDuration::from_hours(8 * 24)),
    (StatStep::Hour, "hours", SignedDuration::from_hours(400 * 24)),
];

/// Who adds up is alone.
const TURN: &str = "statistics";

/// Rows of one statement.
const ROWS: usize = 500;

/// What was added up in one step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rolled {
    /// Minutes.
    pub minutes: u64,
    /// Minutes that came too late: their jobs, or the minutes beside them, are gone.
    pub too_late: u64,
}

/// What an adding-up found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// An hour, and its day.
    Hour(Rolled),
    /// Nothing was due.
    Nothing,
}

/// Whose jobs, and how they ended: queue, kind, tenant, state.
type Group = [String; 4];

impl Records {
    /// Adds up the oldest hour of which something is due, and its day. Any number of processes may do so at once.
    ///
    /// # Errors
    /// If the database does not answer, or refuses; then everything is as it was.
    pub async fn roll_up(&self, now: Timestamp) -> Result<Added, RecordsError> {
        let until = now.as_millisecond() - MINUTE - SETTLED;
        let Some(hour) = self.due_hour(until).await? else { return Ok(Added::Nothing) };
        let (mut changes, gone) = self.changes(hour, until).await?;
        let too_late: Vec<i64> = changes.keys().copied().filter(|minute| *minute < gone).collect();
        let mut counted = BTreeMap::new();
        for minute in changes.keys().filter(|minute| **minute >= gone) {
            counted.insert(*minute, self.count_minute(*minute).await?);
        }
        let minutes = writing!(self, |db| {
            db.take_turn(TURN).await?;
            for minute in &too_late {
                if let Some(changes) = changes.remove(minute) {
                    db.run(forget(*minute, &changes)).await?;
                }
            }
            add_up(db, hour, &changes, counted).await?
        })?;
        Ok(Added::Hour(Rolled { minutes, too_late: too_late.len() as u64 }))
    }

    /// Has the minutes from one time up to another counted again.
    ///
    /// # Errors
    /// If the database does not answer, or refuses.
    pub async fn recount(&self, from: Timestamp, to: Timestamp) -> Result<(), RecordsError> {
        let change: i64 = rand::random();
        let again = Statement::of(
            "INSERT INTO job_stats_due (minute, change) \
             SELECT finished_at / 60000 * 60000, $3 FROM jobs WHERE finished_at >= $1 AND finished_at < $2 \
             UNION SELECT at, $3 FROM job_stats WHERE step = 60 AND at >= $1 AND at < $2 ON CONFLICT DO NOTHING",
        );
        let again = again.with(super::minute_of(from.as_millisecond())).with(to).with(change);
        writing!(self, |db| query_of!(again).execute(db).await.map(drop)?)
    }

    /// Deletes minutes and hours that are older than they are kept, once nothing of their time is due; gives how many rows.
    ///
    /// # Errors
    /// If the database does not answer, or refuses.
    pub async fn prune_stats(&self, now: Timestamp) -> Result<u64, RecordsError> {
        let mut pruned = 0;
        for (step, class, kept) in KEPT {
            let before = StatStep::Day.start_of(now.saturating_sub(kept).unwrap_or(Timestamp::MIN));
            if self.due_hour(before.as_millisecond() - 1).await?.is_some() || !self.has_stats(step, before).await? {
                continue;
            }
            let delete = Statement::of("DELETE FROM job_stats WHERE step = $1 AND at < $2").with(step.seconds());
            let delete = delete.with(before);
            pruned += writing!(self, |db| {
                db.take_turn(TURN).await?;
                db.run(crate::retention::kept_since(class, before)).await?;
                db.run(delete).await?
            })?;
        }
        Ok(pruned)
    }

    async fn has_stats(&self, step: StatStep, before: Timestamp) -> Result<bool, RecordsError> {
        let question =
            Statement::of("SELECT at FROM job_stats WHERE step = $1 AND at < $2 LIMIT 1").with(step.seconds());
        let question = question.with(before);
        reading!(self, |db| query_of!(question).fetch_optional(db).await?.is_some())
    }

    /// The hour of the oldest minute that is due, up to a time.
    async fn due_hour(&self, until: i64) -> Result<Option<i64>, RecordsError> {
        let question = Statement::of("SELECT min(minute) AS minute FROM job_stats_due WHERE minute <= $1").with(until);
        let minute = reading!(self, |db| query_of!(question).fetch_one(db).await?.whole("minute")?)?;
        Ok(minute.map(|minute| minute - minute.rem_euclid(HOUR)))
    }

    /// The minutes of an hour that are due, with what was noted of each; and before when it is too late.
    async fn changes(&self, hour: i64, until: i64) -> Result<(BTreeMap<i64, Vec<i64>>, i64), RecordsError> {
        let question = Statement::of(format_args!(
            "SELECT minute, change, {GONE} AS gone FROM job_stats_due WHERE minute >= $1 AND minute < $2 AND minute <= $3"
        ));
        let question = question.with(hour).with(hour + HOUR).with(until);
        let rows = reading!(self, |db| {
            let rows = query_of!(question).fetch_all(db).await?;
            let cells = |row| {
                let row: &dyn Cells = row;
                Ok::<_, RecordsError>((row.whole("minute")?, row.whole("change")?, row.whole("gone")?))
            };
            rows.iter().map(|row| cells(row)).collect::<Result<Vec<_>, _>>()?
        })?;
        let (mut changes, mut gone) = (BTreeMap::<_, Vec<_>>::new(), 0);
        for (minute, change, since) in rows {
            gone = since.unwrap_or_default();
            changes.entry(minute.unwrap_or_default()).or_default().push(change.unwrap_or_default());
        }
        Ok((changes, gone))
    }

    /// The jobs of a minute, from their records.
    async fn count_minute(&self, minute: i64) -> Result<BTreeMap<Group, Tally>, RecordsError> {
        let question = Statement::of(
            "SELECT '' AS id, CAST(1 AS BIGINT) AS times, queue, kind, coalesce(tenant, '') AS tenant, state, CAST(1 AS BIGINT) AS jobs, '[]' AS waits, \
               '[]' AS runs, waited_ms AS wait_ms, finished_at - started_at AS run_ms \
             FROM jobs WHERE finished_at >= $1 AND finished_at < $2",
        );
        let question = question.with(minute).with(minute + MINUTE);
        reading!(self, |db| {
            let mut groups = BTreeMap::new();
            let question = query_of!(question);
            let mut rows = question.fetch(db);
            while let Some(row) = rows.try_next().await? {
                add_to(&mut groups, &row)?;
            }
            groups
        })
    }
}

/// Replaces minutes by what was counted, and adds up their hour and its day; gives how many minutes.
async fn add_up(
    db: &mut impl Change,
    hour: i64,
    changes: &BTreeMap<i64, Vec<i64>>,
    counted: BTreeMap<i64, BTreeMap<Group, Tally>>,
) -> Result<u64, RecordsError> {
    let mut minutes = 0;
    for (minute, groups) in counted {
        // Without a note left, somebody has counted the same or more since.
        let noted = changes.get(&minute).map(Vec::as_slice).unwrap_or_default();
        if db.run(forget(minute, noted)).await? > 0 {
            replace(db, StatStep::Minute, minute, groups).await?;
            minutes += 1;
        }
    }
    if minutes > 0 {
        let day = StatStep::Day.seconds() * 1000;
        sum(db, StatStep::Minute, StatStep::Hour, hour).await?;
        sum(db, StatStep::Hour, StatStep::Day, hour - hour.rem_euclid(day)).await?;
    }
    Ok(minutes)
}

/// Replaces a step by the sum of the shorter ones in it.
async fn sum(db: &mut impl Change, parts: StatStep, whole: StatStep, at: i64) -> Result<(), RecordsError> {
    let question = Statement::of(
        "SELECT '' AS id, CAST(1 AS BIGINT) AS times, queue, kind, tenant, state, jobs, waits, runs, CAST(NULL AS BIGINT) AS wait_ms, \
           CAST(NULL AS BIGINT) AS run_ms \
         FROM job_stats WHERE step = $1 AND at >= $2 AND at < $3",
    );
    let question = question.with(parts.seconds()).with(at).with(at + whole.seconds() * 1000);
    let mut groups = BTreeMap::new();
    for row in db.rows(question).await? {
        add_to(&mut groups, &row)?;
    }
    replace(db, whole, at, groups).await
}

fn add_to(groups: &mut BTreeMap<Group, Tally>, row: &dyn Cells) -> Result<(), RecordsError> {
    let row = Columns::of("statistics", row)?;
    let group = [row.word("queue")?, row.word("kind")?, row.word("tenant")?, row.word("state")?];
    groups.entry(group).or_default().add_row(&row)
}

async fn replace(
    db: &mut impl Change,
    step: StatStep,
    at: i64,
    groups: BTreeMap<Group, Tally>,
) -> Result<(), RecordsError> {
    let delete = Statement::of("DELETE FROM job_stats WHERE step = $1 AND at = $2").with(step.seconds()).with(at);
    db.run(delete).await?;
    let groups: Vec<_> = groups.into_iter().collect();
    for groups in groups.chunks(ROWS) {
        let mut insert =
            Statement::of("INSERT INTO job_stats (step, at, queue, kind, tenant, state, jobs, waits, runs) VALUES ");
        let mut before = "(";
        for ([queue, kind, tenant, state], Tally { jobs, waits, runs }) in groups {
            insert.push(before).bind(step.seconds()).push(", ").bind(at);
            for text in [queue, kind, tenant, state] {
                insert.push(", ").bind(text.as_str());
            }
            insert.push(", ").bind(*jobs);
            insert.push(", ").bind(&*json(waits)).push(", ").bind(&*json(runs)).push(")");
            before = ", (";
        }
        db.run(insert).await?;
    }
    Ok(())
}

/// Takes back what was noted of a minute.
fn forget(minute: i64, changes: &[i64]) -> Statement {
    let mut statement = Statement::of("DELETE FROM job_stats_due WHERE minute = $1 AND change IN ").with(minute);
    statement.bind_all(changes.iter().copied());
    statement
}
