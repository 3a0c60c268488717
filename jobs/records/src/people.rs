//! People.

use fourmi_model::{Profile, Role, TenantName, UserId};
use jiff::Timestamp;

use crate::{
    Records, RecordsError,
    access::note_access,
    erasures::{ERASE, Leftovers},
    row::{Cells, Columns, json},
    statement::{Statement, query_of},
    store::{Change, PRUNING, SUPER_ADMINS, reading, writing},
};

/// A person, as they are kept. Times are kept to the millisecond.
#[derive(Debug, Clone, PartialEq)]
pub struct User {
    /// What they are called in the API; never changes.
    pub id: UserId,
    /// Grows with every change: a change is made only to the person that was read.
    pub version: i64,
    /// The tenant; super admins have none.
    pub tenant: Option<TenantName>,
    /// What they are on the platform.
    pub role: Role,
    /// A name of their own to log in with. No two have the same one, upper or lower case (of ASCII).
    pub username: Option<String>,
    /// The e-mail address, in its normal form. No two have the same one, upper or lower case (of ASCII).
    pub email: Option<String>,
    /// When whoever reads the mail of the address confirmed it.
    pub email_confirmed_at: Option<Timestamp>,
    /// The hash of the password.
    pub password_hash: Option<String>,
    /// When the password was set.
    pub password_changed_at: Option<Timestamp>,
    /// The secret of the second factor, sealed.
    pub totp_secret: Option<String>,
    /// Since when the second factor is asked for.
    pub totp_confirmed_at: Option<Timestamp>,
    /// The hashes of the recovery codes that were not used yet.
    pub recovery_hashes: Vec<String>,
    /// What their access tokens must have, or they are void: whoever changes what tokens say raises it.
    pub access_version: i64,
    /// Since when they may not log in.
    pub deactivated_at: Option<Timestamp>,
    /// What they say of themselves.
    pub profile: Profile,
    /// When the account was made; never changes.
    pub created_at: Timestamp,
    /// Who made it, if not the person; never changes.
    pub created_by: Option<String>,
    /// When they logged in last.
    pub last_login_at: Option<Timestamp>,
}

impl User {
    /// A person of whom nothing else is known yet.
    pub fn new(id: UserId, role: Role, created_at: Timestamp) -> Self {
        Self {
            id,
            version: 1,
            tenant: None,
            role,
            username: None,
            email: None,
            email_confirmed_at: None,
            password_hash: None,
            password_changed_at: None,
            totp_secret: None,
            totp_confirmed_at: None,
            recovery_hashes: Vec::new(),
            access_version: 1,
            deactivated_at: None,
            profile: Profile::default(),
            created_at,
            created_by: None,
            last_login_at: None,
        }
    }

    fn is_active_super_admin(&self) -> bool {
        self.role == Role::SuperAdmin && self.deactivated_at.is_none()
    }

    /// What they are found by.
    fn search(&self) -> String {
        let words = [&self.username, &self.email, &self.profile.name];
        let words: Vec<_> = words.into_iter().flatten().map(|word| word.to_lowercase()).collect();
        words.join("\n")
    }
}

/// What became of a change of a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserChange {
    /// It is made.
    Changed,
    /// Somebody else was faster, or the person is gone. Nothing is changed.
    Stale,
    /// Another person has the username or the e-mail address. Nothing is changed.
    Taken,
    /// No active super admin would be left. Nothing is changed.
    LastSuperAdmin,
}

/// What became of the removal of a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserRemoval {
    /// They are gone.
    Removed,
    /// There is no such person.
    Unknown,
    /// No active super admin would be left. Nothing is changed.
    LastSuperAdmin,
}

const ADD: &str = "\
INSERT INTO users (id, version, tenant, role, username, username_key, email, email_key, email_confirmed_at, password_hash, \
  password_changed_at, totp_secret, totp_confirmed_at, recovery_hashes, access_version, deactivated_at, profile, search, \
  created_at, created_by, last_login_at) \
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21) \
ON CONFLICT DO NOTHING";

/// A secret that is taken away takes the steps with it at which its codes were used. One that is only sealed anew does not.
const CHANGE: &str = "\
UPDATE users SET version = version + 1, tenant = $3, role = $4, username = $5, username_key = $6, email = $7, \
  email_key = $8, email_confirmed_at = $9, password_hash = $10, password_changed_at = $11, totp_secret = $12, \
  totp_confirmed_at = $13, recovery_hashes = $14, access_version = $15, deactivated_at = $16, profile = $17, search = $18, \
  totp_last_step = CASE WHEN $12 IS NULL THEN NULL ELSE totp_last_step END \
WHERE id = $1 AND version = $2";

const BY_ID: &str = "SELECT * FROM users WHERE id = $1";

const OTHER_SUPER_ADMIN: &str = "\
SELECT id FROM users WHERE role = 'super_admin' AND deactivated_at IS NULL AND id <> $1 LIMIT 1";

/// What goes with a person, before they go themselves.
const REMOVE: [&str; 8] = [
    "DELETE FROM refresh_tokens WHERE session_id IN (SELECT id FROM sessions WHERE user_id = $1)",
    "DELETE FROM sessions WHERE user_id = $1",
    "DELETE FROM one_time_tokens WHERE user_id = $1",
    "UPDATE webhook_changes SET number = number + 1 WHERE EXISTS (SELECT 1 FROM webhooks WHERE created_by = $1 AND own_only)",
    "DELETE FROM webhooks WHERE created_by = $1 AND own_only",
    "DELETE FROM schedules WHERE created_by = $1 AND own_only",
    "DELETE FROM devices WHERE owner = $1",
    "DELETE FROM users WHERE id = $1",
];

const LOGGED_IN: &str = "\
UPDATE users SET last_login_at = $2 WHERE id = $1 AND (last_login_at IS NULL OR last_login_at < $2)";

const USE_STEP: &str = "\
UPDATE users SET totp_last_step = $2 WHERE id = $1 AND (totp_last_step IS NULL OR totp_last_step < $2)";

const KEEP_HASHES: &str = "UPDATE users SET version = version + 1, recovery_hashes = $2 WHERE id = $1";

impl Records {
    /// Adds a person. `false` if their id, username or e-mail address is taken; nothing is changed then.
    ///
    /// # Errors
    /// If the database does not answer, or refuses.
    pub async fn add_user(&self, user: &User) -> Result<bool, RecordsError> {
        let add = changeable(Statement::of(ADD), user)
            .with(user.created_at)
            .with(user.created_by.as_deref())
            .with(user.last_login_at);
        writing!(self, |db| query_of!(add).execute(db).await?.rows_affected() > 0)
    }

    /// A person by their id.
    ///
    /// # Errors
    /// If the database does not answer, or the person cannot be read.
    pub async fn user(&self, id: &UserId) -> Result<Option<User>, RecordsError> {
        self.user_by(BY_ID, id.as_str()).await
    }

    /// A person by their username, upper or lower case.
    ///
    /// # Errors
    /// If the database does not answer, or the person cannot be read.
    pub async fn user_by_username(&self, username: &str) -> Result<Option<User>, RecordsError> {
        self.user_by("SELECT * FROM users WHERE username_key = $1", &username.to_ascii_lowercase()).await
    }

    /// A person by their e-mail address in its normal form, upper or lower case.
    ///
    /// # Errors
    /// If the database does not answer, or the person cannot be read.
    pub async fn user_by_email(&self, email: &str) -> Result<Option<User>, RecordsError> {
        self.user_by("SELECT * FROM users WHERE email_key = $1", &email.to_ascii_lowercase()).await
    }

    async fn user_by(&self, question: &'static str, value: &str) -> Result<Option<User>, RecordsError> {
        let question = Statement::of(question).with(value);
        reading!(self, |db| query_of!(question).fetch_optional(db).await?.map(|row| user(&row)).transpose()?)
    }

    /// Whether there is anybody.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn any_user(&self) -> Result<bool, RecordsError> {
        reading!(self, |db| sqlx::query("SELECT id FROM users LIMIT 1").fetch_optional(db).await?.is_some())
    }

    /// Replaces what may change of a person (all but their id, how the account was made and when they logged in last), and
    /// raises their version by one. If their access version changes, other processes are told.
    ///
    /// # Errors
    /// If the database does not answer, or refuses.
    pub async fn change_user(&self, user: &User) -> Result<UserChange, RecordsError> {
        writing!(self, |db| change(db, user).await?)
    }

    /// Removes a person with their sessions and the links that were sent to them. Their access tokens are void.
    ///
    /// # Errors
    /// If the database does not answer, or refuses; then nothing is removed.
    pub async fn remove_user(&self, id: &UserId, leftovers: Leftovers) -> Result<UserRemoval, RecordsError> {
        writing!(self, |db| remove(db, id, leftovers).await?)
    }

    /// Notes when a person logged in. The time is not moved back.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn note_login(&self, id: &UserId, time: Timestamp) -> Result<(), RecordsError> {
        let noted = Statement::of(LOGGED_IN).with(id.as_str()).with(time);
        writing!(self, |db| query_of!(noted).execute(db).await.map(drop)?)
    }

    /// Uses the code of a time step of the second factor (RFC 6238): `true` if neither it nor that of a later step was used
    /// before, which is so for one only of those who use it at once.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn use_totp_step(&self, id: &UserId, step: i64) -> Result<bool, RecordsError> {
        let used = Statement::of(USE_STEP).with(id.as_str()).with(step);
        writing!(self, |db| query_of!(used).execute(db).await?.rows_affected() > 0)
    }

    /// Uses a recovery code, of which this is the hash: `true` if it was there, which is so for one only of those who use it
    /// at once. The version of the person is raised by one, so that no change brings it back.
    ///
    /// # Errors
    /// If the database does not answer, or the person cannot be read.
    pub async fn use_recovery_hash(&self, id: &UserId, hash: &str) -> Result<bool, RecordsError> {
        writing!(self, |db| use_hash(db, id, hash).await?)
    }
}

/// The statement with the values of all that may change, after the id and the version.
fn changeable(statement: Statement, user: &User) -> Statement {
    let key = |text: &Option<String>| text.as_deref().map(str::to_ascii_lowercase);
    statement
        .with(user.id.as_str())
        .with(user.version)
        .with(user.tenant.as_ref().map(TenantName::as_str))
        .with(user.role.as_str())
        .with(user.username.as_deref())
        .with(key(&user.username).as_deref())
        .with(user.email.as_deref())
        .with(key(&user.email).as_deref())
        .with(user.email_confirmed_at)
        .with(user.password_hash.as_deref())
        .with(user.password_changed_at)
        .with(user.totp_secret.as_deref())
        .with(user.totp_confirmed_at)
        .with(&*json(&user.recovery_hashes))
        .with(user.access_version)
        .with(user.deactivated_at)
        .with(&*json(&user.profile))
        .with(&*user.search())
}

async fn change(db: &mut impl Change, user: &User) -> Result<UserChange, RecordsError> {
    let Some(before) = find(db, &user.id).await?.filter(|before| before.version == user.version) else {
        return Ok(UserChange::Stale);
    };
    if before.is_active_super_admin() && !user.is_active_super_admin() {
        db.take_turn(SUPER_ADMINS).await?;
        if is_last_super_admin(db, &user.id).await? {
            return Ok(UserChange::LastSuperAdmin);
        }
    }
    db.take_turn(user.id.as_str()).await?;
    // What was read may be old by now, which the version then tells.
    match db.run(changeable(Statement::of(CHANGE), user)).await {
        Ok(0) => return Ok(UserChange::Stale),
        Ok(_) => {}
        // It is the first that the transaction changes, so that there is nothing to undo.
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => return Ok(UserChange::Taken),
        Err(error) => return Err(error.into()),
    }
    if user.access_version != before.access_version {
        note_access(db, &user.id, user.access_version).await?;
    }
    Ok(UserChange::Changed)
}

async fn remove(db: &mut impl Change, id: &UserId, leftovers: Leftovers) -> Result<UserRemoval, RecordsError> {
    for turn in [SUPER_ADMINS, PRUNING, id.as_str()] {
        db.take_turn(turn).await?;
    }
    let Some(user) = find(db, id).await? else { return Ok(UserRemoval::Unknown) };
    if user.is_active_super_admin() && is_last_super_admin(db, id).await? {
        return Ok(UserRemoval::LastSuperAdmin);
    }
    for statement in REMOVE {
        db.run(Statement::of(statement).with(id.as_str())).await?;
    }
    if leftovers == Leftovers::Erase {
        db.run(Statement::of(ERASE).with(id.as_str()).with(Timestamp::now())).await?;
    }
    note_access(db, id, i64::MAX).await?;
    Ok(UserRemoval::Removed)
}

async fn use_hash(db: &mut impl Change, id: &UserId, hash: &str) -> Result<bool, RecordsError> {
    db.take_turn(id.as_str()).await?;
    let Some(mut user) = find(db, id).await? else { return Ok(false) };
    let Some(place) = user.recovery_hashes.iter().position(|known| known == hash) else { return Ok(false) };
    user.recovery_hashes.remove(place);
    db.run(Statement::of(KEEP_HASHES).with(id.as_str()).with(&*json(&user.recovery_hashes))).await?;
    Ok(true)
}

async fn find(db: &mut impl Change, id: &UserId) -> Result<Option<User>, RecordsError> {
    db.row(Statement::of(BY_ID).with(id.as_str())).await?.map(|row| user(&row)).transpose()
}

async fn is_last_super_admin(db: &mut impl Change, id: &UserId) -> Result<bool, sqlx::Error> {
    Ok(db.row(Statement::of(OTHER_SUPER_ADMIN).with(id.as_str())).await?.is_none())
}

pub(crate) fn user(row: &dyn Cells) -> Result<User, RecordsError> {
    let row = Columns::of("person", row)?;
    Ok(User {
        id: row.word("id")?,
        version: row.number("version")?,
        tenant: row.optional_word("tenant")?,
        role: row.word("role")?,
        username: row.text("username")?,
        email: row.text("email")?,
        email_confirmed_at: row.time("email_confirmed_at")?,
        password_hash: row.text("password_hash")?,
        password_changed_at: row.time("password_changed_at")?,
        totp_secret: row.text("totp_secret")?,
        totp_confirmed_at: row.time("totp_confirmed_at")?,
        recovery_hashes: row.json("recovery_hashes")?.unwrap_or_default(),
        access_version: row.number("access_version")?,
        deactivated_at: row.time("deactivated_at")?,
        profile: row.json("profile")?.unwrap_or_default(),
        created_at: row.time("created_at")?.unwrap_or_default(),
        created_by: row.text("created_by")?,
        last_login_at: row.time("last_login_at")?,
    })
}
