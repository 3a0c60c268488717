//! Generations of the keys that sign access tokens.

use jiff::Timestamp;

use crate::{
    Records, RecordsError,
    access::note_change,
    row::{Cells, Columns},
    statement::Statement,
    store::{Change, reading, writing},
};

/// A generation of the keys that sign access tokens; the key itself is not kept here. Times are kept to the millisecond.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenKey {
    /// Which generation: from one on, in the order of time.
    pub number: i64,
    /// When it was made.
    pub made_at: Timestamp,
    /// Since when nothing that it signed is valid.
    pub revoked_at: Option<Timestamp>,
}

const ALL: &str = "SELECT CAST(number AS TEXT) AS id, number, made_at, revoked_at FROM token_keys ORDER BY number DESC";

/// Of two who have seen the same newest one, the second meets the first one's.
const ADD: &str = "\
INSERT INTO token_keys (number, made_at) SELECT $1 + 1, $2 \
WHERE coalesce((SELECT max(number) FROM token_keys), 0) = $1 ON CONFLICT DO NOTHING";

const REVOKE: &str = "UPDATE token_keys SET revoked_at = $2 WHERE number <= $1 AND revoked_at IS NULL";

const PRUNE: &str = "DELETE FROM token_keys WHERE number < (SELECT max(number) FROM token_keys WHERE made_at < $1)";

impl Records {
    /// All generations, newest first.
    ///
    /// # Errors
    /// If the database does not answer, or a generation cannot be read.
    pub async fn token_keys(&self) -> Result<Vec<TokenKey>, RecordsError> {
        reading!(self, |db| {
            let rows = sqlx::query(ALL).fetch_all(db).await?;
            rows.iter().map(|row| token_key(row)).collect::<Result<_, _>>()?
        })
    }

    /// Adds the generation after `after`, which must be the newest, or 0 if there is none; if wanted, all older ones are
    /// revoked. `false` if somebody was faster; nothing is changed then.
    ///
    /// # Errors
    /// If the database does not answer, or refuses.
    pub async fn add_token_key(&self, after: i64, now: Timestamp, revoke_older: bool) -> Result<bool, RecordsError> {
        writing!(self, |db| add(db, after, now, revoke_older).await?)
    }

    /// Deletes the generations that were followed by another one before this time, and gives how many.
    ///
    /// # Errors
    /// If the database does not answer, or refuses; then none is deleted.
    pub async fn prune_token_keys(&self, before: Timestamp) -> Result<u64, RecordsError> {
        writing!(self, |db| db.run(Statement::of(PRUNE).with(before)).await?)
    }
}

async fn add(db: &mut impl Change, after: i64, now: Timestamp, revoke_older: bool) -> Result<bool, RecordsError> {
    if db.run(Statement::of(ADD).with(after).with(now)).await? == 0 {
        return Ok(false);
    }
    if revoke_older {
        db.run(Statement::of(REVOKE).with(after).with(now)).await?;
    }
    note_change(db).await?;
    Ok(true)
}

fn token_key(row: &dyn Cells) -> Result<TokenKey, RecordsError> {
    let row = Columns::of("token key", row)?;
    Ok(TokenKey {
        number: row.number("number")?,
        made_at: row.time("made_at")?.unwrap_or_default(),
        revoked_at: row.time("revoked_at")?,
    })
}
