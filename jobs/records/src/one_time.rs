//! Tokens of links in mails, each of which works once.

use fourmi_model::UserId;
use jiff::Timestamp;

use crate::{
    Records, RecordsError,
    row::{Cells, Columns},
    statement::{Statement, query_of},
    store::{Change, PRUNING, reading, writing},
};

/// The token of a link in a mail, without its secret. Times are kept to the millisecond.
#[derive(Debug, Clone, PartialEq)]
pub struct OneTime {
    /// What it is called.
    pub id: String,
    /// To whom it was sent.
    pub user: UserId,
    /// What it is for, as a word.
    pub purpose: String,
    /// The address that it was sent to.
    pub email: Option<String>,
    /// The job that sends the mail.
    pub job: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it does not work.
    pub expires_at: Timestamp,
    /// When it was used.
    pub used_at: Option<Timestamp>,
}

const REPLACE: &str = "DELETE FROM one_time_tokens WHERE user_id = $1 AND purpose = $2 AND used_at IS NULL";

const ADD: &str = "\
INSERT INTO one_time_tokens (id, user_id, purpose, email, job, created_at, expires_at, used_at) \
SELECT $1, id, $3, $4, $5, $6, $7, $8 FROM users WHERE id = $2";

const BY_ID: &str = "SELECT * FROM one_time_tokens WHERE id = $1";

const USE: &str = "\
UPDATE one_time_tokens SET used_at = $2 WHERE id = $1 AND used_at IS NULL AND expires_at > $2 RETURNING *";

const USABLE: &str = "\
SELECT * FROM one_time_tokens WHERE user_id = $1 AND used_at IS NULL AND expires_at > $2 ORDER BY created_at DESC, id DESC";

impl Records {
    /// Adds a token. Those of the same person and purpose that were not used are deleted: only the newest link works.
    /// `false` if there is no such person (any more); nothing is changed then.
    ///
    /// # Errors
    /// If the database does not answer, or refuses.
    pub async fn add_one_time(&self, token: &OneTime) -> Result<bool, RecordsError> {
        writing!(self, |db| add(db, token).await?)
    }

    /// A token by its id, even if it does not work any more.
    ///
    /// # Errors
    /// If the database does not answer, or the token cannot be read.
    pub async fn one_time(&self, id: &str) -> Result<Option<OneTime>, RecordsError> {
        let question = Statement::of(BY_ID).with(id);
        reading!(self, |db| query_of!(question).fetch_optional(db).await?.map(|row| one_time(&row)).transpose()?)
    }

    /// Uses a token, and gives it. `None` if it was used before, has expired, or is not there: of those who use it at once,
    /// one gets it.
    ///
    /// # Errors
    /// If the database does not answer, or the token cannot be read.
    pub async fn use_one_time(&self, id: &str, now: Timestamp) -> Result<Option<OneTime>, RecordsError> {
        let used = Statement::of(USE).with(id).with(now);
        writing!(self, |db| query_of!(used).fetch_optional(&mut *db).await?.map(|row| one_time(&row)).transpose()?)
    }

    /// The tokens of a person that work, newest first.
    ///
    /// # Errors
    /// If the database does not answer, or a token cannot be read.
    pub async fn one_times_of(&self, user: &UserId, now: Timestamp) -> Result<Vec<OneTime>, RecordsError> {
        let usable = Statement::of(USABLE).with(user.as_str()).with(now);
        reading!(self, |db| {
            let rows = query_of!(usable).fetch_all(db).await?;
            rows.iter().map(|row| one_time(row)).collect::<Result<_, _>>()?
        })
    }

    /// Notes which job sends the mail with a token, if it is there.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn note_one_time_job(&self, id: &str, job: &str) -> Result<(), RecordsError> {
        let noted = Statement::of("UPDATE one_time_tokens SET job = $2 WHERE id = $1").with(id).with(job);
        writing!(self, |db| query_of!(noted).execute(db).await.map(drop)?)
    }

    /// Deletes the tokens that expired or were used before this time, and gives how many.
    ///
    /// # Errors
    /// If the database does not answer, or refuses; then none is deleted.
    pub async fn prune_one_times(&self, before: Timestamp) -> Result<u64, RecordsError> {
        let prune = "DELETE FROM one_time_tokens WHERE expires_at < $1 OR used_at < $1";
        writing!(self, |db| {
            db.take_turn(PRUNING).await?;
            db.run(Statement::of(prune).with(before)).await?
        })
    }
}

async fn add(db: &mut impl Change, token: &OneTime) -> Result<bool, RecordsError> {
    let user = token.user.as_str();
    // Of two that are added at once, one replaces the other, and none stays of a person who is removed.
    db.take_turn(user).await?;
    db.run(Statement::of(REPLACE).with(user).with(token.purpose.as_str())).await?;
    let add = Statement::of(ADD)
        .with(token.id.as_str())
        .with(user)
        .with(token.purpose.as_str())
        .with(token.email.as_deref())
        .with(token.job.as_deref())
        .with(token.created_at)
        .with(token.expires_at)
        .with(token.used_at);
    Ok(db.run(add).await? > 0)
}

fn one_time(row: &dyn Cells) -> Result<OneTime, RecordsError> {
    let row = Columns::of("one-time token", row)?;
    Ok(OneTime {
        id: row.word("id")?,
        user: row.word("user_id")?,
        purpose: row.word("purpose")?,
        email: row.text("email")?,
        job: row.text("job")?,
        created_at: row.time("created_at")?.unwrap_or_default(),
        expires_at: row.time("expires_at")?.unwrap_or_default(),
        used_at: row.time("used_at")?,
    })
}
