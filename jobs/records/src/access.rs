//! Which access tokens became void before their time: for processes that check tokens without asking the database.

use std::time::Duration;

use fourmi_model::UserId;
use jiff::Timestamp;

use crate::{
    Records, RecordsError,
    row::Columns,
    statement::Statement,
    store::{Change, reading},
};

/// How long a change of access is remembered: longer than any access token is valid.
const REMEMBERED: Duration = Duration::from_hours(2 * 24);

const FORGET: &str = "DELETE FROM access_changes WHERE changed_at < $1";

const REMEMBER: &str = "\
INSERT INTO access_changes (user_id, access_version, changed_at) VALUES ($1, $2, $3) \
ON CONFLICT (user_id) DO UPDATE SET access_version = excluded.access_version, changed_at = excluded.changed_at";

const SINCE: &str = "\
SELECT user_id AS id, access_version FROM access_changes WHERE changed_at >= $1 ORDER BY changed_at, user_id";

impl Records {
    /// A number that is another one after every change of which access tokens are valid: somebody's access version was
    /// changed, somebody was removed, a session was revoked, a key of tokens was added or revoked.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn people_version(&self) -> Result<i64, RecordsError> {
        reading!(self, |db| sqlx::query_scalar("SELECT number FROM people_changes").fetch_one(db).await?)
    }

    /// The access versions of people for whom they changed at this time or later, in the last two days; [`i64::MAX`] for
    /// who was removed. Access tokens of earlier versions are void. The times are those of the clocks of whoever changed
    /// something, a moment before the change is seen: ask from some seconds before the last time on.
    ///
    /// # Errors
    /// If the database does not answer, or a row cannot be read.
    pub async fn access_changes_since(&self, time: Timestamp) -> Result<Vec<(UserId, i64)>, RecordsError> {
        reading!(self, |db| {
            let rows = sqlx::query(SINCE).bind(time.as_millisecond()).fetch_all(db).await?;
            let change = |row| {
                let row = Columns::of("access change", row)?;
                Ok::<_, RecordsError>((row.word("id")?, row.number("access_version")?))
            };
            rows.iter().map(|row| change(row)).collect::<Result<_, _>>()?
        })
    }
}

/// Notes that other access tokens are valid now. It comes after all other steps of a change, because everybody who notes
/// something waits for the end of it.
pub(crate) async fn note_change(db: &mut impl Change) -> Result<(), sqlx::Error> {
    db.run(Statement::of("UPDATE people_changes SET number = number + 1")).await.map(drop)
}

/// Notes that earlier access tokens of a person are void.
pub(crate) async fn note_access(db: &mut impl Change, user: &UserId, version: i64) -> Result<(), sqlx::Error> {
    note_change(db).await?;
    let now = Timestamp::now();
    let past = now.saturating_sub(REMEMBERED).unwrap_or(Timestamp::MIN);
    db.run(Statement::of(FORGET).with(past)).await?;
    db.run(Statement::of(REMEMBER).with(user.as_str()).with(version).with(now)).await.map(drop)
}
