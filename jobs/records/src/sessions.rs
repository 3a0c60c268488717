//! Where people are logged in.

use fourmi_model::UserId;
use jiff::Timestamp;

use crate::{
    Records, RecordsError,
    access::note_change,
    row::{Cells, Columns},
    statement::{Statement, query_of},
    store::{Change, PRUNING, reading, writing},
};

/// Sessions that are deleted at once.
const STEP: i64 = 1_000;

/// Where somebody is logged in: what a refresh token and those that replaced it belong to. Times are kept to the millisecond.
#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    /// What it is called in the API; never changes.
    pub id: String,
    /// Who is logged in.
    pub user: UserId,
    /// What the device is called, as said at login.
    pub device: Option<String>,
    /// The program that used it last, in its own words.
    pub user_agent: Option<String>,
    /// The address that it was used from last.
    pub address: String,
    /// When it began.
    pub created_at: Timestamp,
    /// When it was renewed last.
    pub refreshed_at: Timestamp,
    /// When it is over, unless it is renewed before.
    pub expires_at: Timestamp,
    /// When it is over even if it is renewed.
    pub ends_at: Timestamp,
    /// Since when it is over because somebody said so.
    pub revoked_at: Option<Timestamp>,
    /// Why it was revoked, as a word.
    pub revoked_for: Option<String>,
}

impl Session {
    fn is_live(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at > now
    }
}

/// What became of a session that was to be renewed.
#[derive(Debug, Clone, PartialEq)]
pub enum Refreshed {
    /// It goes on, as it is now, with the next token.
    Renewed(Session),
    /// The token was replaced before, so two have it of whom one is a thief. The session is revoked.
    Reused(Session),
    /// The session was over already.
    Over,
    /// There is no such token.
    Unknown,
}

const ADD: &str = "\
INSERT INTO sessions (id, user_id, device, user_agent, address, created_at, refreshed_at, expires_at, ends_at, revoked_at, \
  revoked_for) \
SELECT $1, id, $3, $4, $5, $6, $7, $8, $9, $10, $11 FROM users WHERE id = $2 AND deactivated_at IS NULL";

const ADD_TOKEN: &str = "INSERT INTO refresh_tokens (sha256, session_id, issued_at) VALUES ($1, $2, $3)";

/// The session that has just begun stays whatever its times say.
const REPLACE_OLDEST: &str = "\
UPDATE sessions SET revoked_at = $3, revoked_for = 'replaced' \
WHERE user_id = $1 AND id <> $2 AND revoked_at IS NULL AND expires_at > $3 AND id NOT IN ( \
  SELECT id FROM sessions WHERE user_id = $1 AND id <> $2 AND revoked_at IS NULL AND expires_at > $3 \
  ORDER BY refreshed_at DESC, id DESC LIMIT $4)";

const BY_TOKEN: &str = "\
SELECT sessions.*, refresh_tokens.replaced_at FROM refresh_tokens CROSS JOIN sessions \
WHERE refresh_tokens.sha256 = $1 AND sessions.id = refresh_tokens.session_id";

const REPLACE_TOKEN: &str = "UPDATE refresh_tokens SET replaced_at = $2 WHERE sha256 = $1";

const RENEW: &str = "\
UPDATE sessions SET user_agent = $2, address = $3, refreshed_at = $4, expires_at = $5 WHERE id = $1";

const REVOKE: &str = "\
UPDATE sessions SET revoked_at = $2, revoked_for = $3 WHERE user_id = $1 AND revoked_at IS NULL AND expires_at > $2";

const LIVE: &str = "\
SELECT * FROM sessions WHERE user_id = $1 AND revoked_at IS NULL AND expires_at > $2 ORDER BY refreshed_at DESC, id DESC";

const USED_FROM: &str = "\
SELECT id FROM sessions WHERE user_id = $1 AND address = $2 AND refreshed_at >= $3 LIMIT 1";

const OVER: &str = "SELECT id FROM sessions WHERE expires_at < $1 OR revoked_at < $1 LIMIT $2";

impl Records {
    /// Begins a session with its first refresh token, of which this is the SHA-256 hash. If the person then has more than
    /// `most` live ones (at least one), those that were renewed longest ago are revoked (`replaced`). `false` if there is no
    /// such person (any more), or they were deactivated; nothing is changed then.
    ///
    /// # Errors
    /// If the database does not answer, or refuses.
    pub async fn start_session(
        &self,
        session: &Session,
        refresh_sha256: &str,
        most: usize,
    ) -> Result<bool, RecordsError> {
        writing!(self, |db| start(db, session, refresh_sha256, most).await?)
    }

    /// Renews the session of a refresh token, which `next` replaces (both are SHA-256 hashes): it goes on until
    /// `expires_at`, but no longer than it may. Of two who show one token at once, one renews the session and the other one
    /// ends it.
    ///
    /// # Errors
    /// If the database does not answer, or refuses; then everything is as it was.
    pub async fn refresh_session(
        &self,
        presented: &str,
        next: &str,
        now: Timestamp,
        expires_at: Timestamp,
        address: &str,
        user_agent: Option<&str>,
    ) -> Result<Refreshed, RecordsError> {
        let renewal = Renewal { next, now, expires_at, address, user_agent };
        writing!(self, |db| refresh(db, presented, &renewal).await?)
    }

    /// The live sessions of a person, the one that was renewed last first.
    ///
    /// # Errors
    /// If the database does not answer, or a session cannot be read.
    pub async fn sessions_of(&self, user: &UserId, now: Timestamp) -> Result<Vec<Session>, RecordsError> {
        let live = Statement::of(LIVE).with(user.as_str()).with(now);
        reading!(self, |db| {
            let rows = query_of!(live).fetch_all(db).await?;
            rows.iter().map(|row| session(row)).collect::<Result<_, _>>()?
        })
    }

    /// A session by its id, even if it is over.
    ///
    /// # Errors
    /// If the database does not answer, or the session cannot be read.
    pub async fn session(&self, id: &str) -> Result<Option<Session>, RecordsError> {
        let question = Statement::of("SELECT * FROM sessions WHERE id = $1").with(id);
        reading!(self, |db| query_of!(question).fetch_optional(db).await?.map(|row| session(&row)).transpose()?)
    }

    /// Revokes a session of a person. `false` if they have none that is live and called so.
    ///
    /// # Errors
    /// If the database does not answer, or refuses.
    pub async fn revoke_session(
        &self,
        user: &UserId,
        id: &str,
        reason: &str,
        now: Timestamp,
    ) -> Result<bool, RecordsError> {
        writing!(self, |db| revoke(db, user, &Which::One(id), reason, now).await? > 0)
    }

    /// Revokes the live sessions of a person, except one, and gives how many.
    ///
    /// # Errors
    /// If the database does not answer, or refuses; then none is revoked.
    pub async fn revoke_sessions(
        &self,
        user: &UserId,
        except: Option<&str>,
        reason: &str,
        now: Timestamp,
    ) -> Result<u64, RecordsError> {
        let which = except.map_or(Which::All, Which::Others);
        writing!(self, |db| revoke(db, user, &which, reason, now).await?)
    }

    /// The ids of sessions that were revoked at this time or later, by the clocks of whoever revoked them: ask from some
    /// seconds before the last time on. Those of people who were removed are gone with them.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn sessions_revoked_since(&self, time: Timestamp) -> Result<Vec<String>, RecordsError> {
        let revoked = "SELECT id FROM sessions WHERE revoked_at >= $1 ORDER BY revoked_at, id";
        reading!(self, |db| sqlx::query_scalar(revoked).bind(time.as_millisecond()).fetch_all(db).await?)
    }

    /// Whether a session of a person, even if it is over, was used last from this address, at this time or later.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn has_logged_in_from(
        &self,
        user: &UserId,
        address: &str,
        since: Timestamp,
    ) -> Result<bool, RecordsError> {
        let used = Statement::of(USED_FROM).with(user.as_str()).with(address).with(since);
        reading!(self, |db| query_of!(used).fetch_optional(db).await?.is_some())
    }

    /// Deletes sessions that were over before this time, with their refresh tokens, and gives how many: 1,000 at most, so
    /// that nobody waits long.
    ///
    /// # Errors
    /// If the database does not answer, or refuses; then none is deleted.
    pub async fn prune_sessions(&self, before: Timestamp) -> Result<u64, RecordsError> {
        writing!(self, |db| prune(db, before).await?)
    }
}

async fn start(
    db: &mut impl Change,
    session: &Session,
    refresh_sha256: &str,
    most: usize,
) -> Result<bool, RecordsError> {
    let (id, user, now) = (session.id.as_str(), session.user.as_str(), session.created_at);
    // Who deactivates the person, or revokes all of their sessions, must not miss this one.
    db.take_turn(user).await?;
    let add = Statement::of(ADD)
        .with(id)
        .with(user)
        .with(session.device.as_deref())
        .with(session.user_agent.as_deref())
        .with(session.address.as_str())
        .with(now)
        .with(session.refreshed_at)
        .with(session.expires_at.min(session.ends_at))
        .with(session.ends_at)
        .with(session.revoked_at)
        .with(session.revoked_for.as_deref());
    if db.run(add).await? == 0 {
        return Ok(false);
    }
    db.run(Statement::of(ADD_TOKEN).with(refresh_sha256).with(id).with(now)).await?;
    let others = i64::try_from(most.saturating_sub(1)).unwrap_or(i64::MAX);
    if db.run(Statement::of(REPLACE_OLDEST).with(user).with(id).with(now).with(others)).await? > 0 {
        note_change(db).await?;
    }
    Ok(true)
}

/// What a session is renewed with.
struct Renewal<'a> {
    next: &'a str,
    now: Timestamp,
    expires_at: Timestamp,
    address: &'a str,
    user_agent: Option<&'a str>,
}

async fn refresh(db: &mut impl Change, presented: &str, renewal: &Renewal<'_>) -> Result<Refreshed, RecordsError> {
    let Some((session, _)) = by_token(db, presented).await? else { return Ok(Refreshed::Unknown) };
    db.take_turn(session.user.as_str()).await?;
    // Somebody may have been faster.
    let Some((session, was_replaced)) = by_token(db, presented).await? else { return Ok(Refreshed::Unknown) };
    if !session.is_live(renewal.now) {
        Ok(Refreshed::Over)
    } else if was_replaced {
        revoke_reused(db, session, renewal.now).await
    } else {
        renew(db, session, presented, renewal).await
    }
}

async fn revoke_reused(db: &mut impl Change, session: Session, now: Timestamp) -> Result<Refreshed, RecordsError> {
    let reason = "refresh_reused";
    revoke(db, &session.user, &Which::One(&session.id), reason, now).await?;
    Ok(Refreshed::Reused(Session { revoked_at: Some(now), revoked_for: Some(reason.to_owned()), ..session }))
}

async fn renew(
    db: &mut impl Change,
    session: Session,
    presented: &str,
    renewal: &Renewal<'_>,
) -> Result<Refreshed, RecordsError> {
    let Renewal { next, now, .. } = *renewal;
    let renewed = Session {
        user_agent: renewal.user_agent.map(str::to_owned),
        address: renewal.address.to_owned(),
        refreshed_at: now,
        expires_at: renewal.expires_at.min(session.ends_at),
        ..session
    };
    db.run(Statement::of(REPLACE_TOKEN).with(presented).with(now)).await?;
    db.run(Statement::of(ADD_TOKEN).with(next).with(renewed.id.as_str()).with(now)).await?;
    let renew = Statement::of(RENEW)
        .with(renewed.id.as_str())
        .with(renewed.user_agent.as_deref())
        .with(renewed.address.as_str())
        .with(renewed.refreshed_at)
        .with(renewed.expires_at);
    db.run(renew).await?;
    Ok(Refreshed::Renewed(renewed))
}

/// Which sessions of a person.
enum Which<'a> {
    One(&'a str),
    Others(&'a str),
    All,
}

async fn revoke(
    db: &mut impl Change,
    user: &UserId,
    which: &Which<'_>,
    reason: &str,
    now: Timestamp,
) -> Result<u64, RecordsError> {
    db.take_turn(user.as_str()).await?;
    let mut statement = Statement::of(REVOKE).with(user.as_str()).with(now).with(reason);
    match which {
        Which::One(id) => {
            statement.push(" AND id = ").bind(*id);
        }
        Which::Others(id) => {
            statement.push(" AND id <> ").bind(*id);
        }
        Which::All => {}
    }
    let revoked = db.run(statement).await?;
    if revoked > 0 {
        note_change(db).await?;
    }
    Ok(revoked)
}

/// The session of a refresh token, and whether the token was replaced.
async fn by_token(db: &mut impl Change, sha256: &str) -> Result<Option<(Session, bool)>, RecordsError> {
    let Some(row) = db.row(Statement::of(BY_TOKEN).with(sha256)).await? else { return Ok(None) };
    Ok(Some((session(&row)?, row.whole("replaced_at")?.is_some())))
}

async fn prune(db: &mut impl Change, before: Timestamp) -> Result<u64, RecordsError> {
    db.take_turn(PRUNING).await?;
    let rows = db.rows(Statement::of(OVER).with(before).with(STEP)).await?;
    let ids = rows.iter().map(|row| row.text("id")).collect::<Result<Vec<_>, _>>()?;
    if ids.is_empty() {
        return Ok(0);
    }
    let delete = |rows: &str| {
        let mut statement = Statement::of(format_args!("DELETE FROM {rows} IN "));
        statement.bind_all(ids.iter().map(Option::as_deref));
        statement
    };
    db.run(delete("refresh_tokens WHERE session_id")).await?;
    Ok(db.run(delete("sessions WHERE id")).await?)
}

fn session(row: &dyn Cells) -> Result<Session, RecordsError> {
    let row = Columns::of("session", row)?;
    Ok(Session {
        id: row.word("id")?,
        user: row.word("user_id")?,
        device: row.text("device")?,
        user_agent: row.text("user_agent")?,
        address: row.word("address")?,
        created_at: row.time("created_at")?.unwrap_or_default(),
        refreshed_at: row.time("refreshed_at")?.unwrap_or_default(),
        expires_at: row.time("expires_at")?.unwrap_or_default(),
        ends_at: row.time("ends_at")?.unwrap_or_default(),
        revoked_at: row.time("revoked_at")?,
        revoked_for: row.text("revoked_for")?,
    })
}
