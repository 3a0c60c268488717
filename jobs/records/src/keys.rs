//! API keys.

use fourmi_model::{Scope, Scopes, TenantName};
use jiff::Timestamp;

use crate::{
    Records, RecordsError,
    row::{Cells, Columns, json, plain},
    store::{reading, writing},
};

/// An API key, as far as it is kept: its secret is known to who was given it. Times are kept to the millisecond.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// What it is called in the API; never changes.
    pub id: String,
    /// Grows with every change: a change is made only to the key that was read.
    pub version: i64,
    /// What it is for, for a person.
    pub name: String,
    /// How its secret begins, by which a person recognises it.
    pub prefix: String,
    /// The SHA-256 hash of its secret, hexadecimal.
    pub sha256: String,
    /// The hash of the secret before, which is valid for a while.
    pub previous_sha256: Option<String>,
    /// Until when the secret before is valid.
    pub previous_until: Option<Timestamp>,
    /// The tenant that it is bound to; never changes.
    pub tenant: Option<TenantName>,
    /// What it may do.
    pub scopes: Scopes,
    /// Whether it sees only what was submitted with it; never changes.
    pub device: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// The id of the key that made it.
    pub created_by: Option<String>,
    /// From when on it is no longer valid.
    pub expires_at: Option<Timestamp>,
    /// Since when it is no longer valid because somebody said so.
    pub revoked_at: Option<Timestamp>,
    /// When it was used last, to within some seconds.
    pub last_used_at: Option<Timestamp>,
    /// Limits of its own, in the writing of the settings.
    pub rate_limit: Option<String>,
}

const ADD: &str = "\
INSERT INTO api_keys (id, version, name, prefix, sha256, previous_sha256, previous_until, tenant, scopes, device, created_at, \
  created_by, expires_at, revoked_at, last_used_at, rate_limit) \
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) ON CONFLICT DO NOTHING";

const CHANGE: &str = "\
UPDATE api_keys SET version = version + 1, name = $3, prefix = $4, sha256 = $5, previous_sha256 = $6, previous_until = $7, \
  scopes = $8, expires_at = $9, revoked_at = $10, rate_limit = $11 \
WHERE id = $1 AND version = $2";

const CHANGED: &str = "UPDATE api_key_changes SET number = number + 1";

const USED: &str = "\
UPDATE api_keys SET last_used_at = $2 WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < $2)";

impl Records {
    /// Adds a key. `false` if its id or the hash of its secret is there already; nothing is changed then.
    ///
    /// # Errors
    /// If the database does not answer, or refuses.
    pub async fn add_key(&self, key: &ApiKey) -> Result<bool, RecordsError> {
        writing!(self, |db| {
            let add = sqlx::query(ADD)
                .bind(plain(&key.id))
                .bind(key.version)
                .bind(plain(&key.name))
                .bind(plain(&key.prefix))
                .bind(plain(&key.sha256))
                .bind(key.previous_sha256.as_deref().map(plain))
                .bind(key.previous_until.map(Timestamp::as_millisecond))
                .bind(key.tenant.as_ref().map(TenantName::as_str))
                .bind(json(&key.scopes))
                .bind(key.device)
                .bind(key.created_at.as_millisecond())
                .bind(key.created_by.as_deref().map(plain))
                .bind(key.expires_at.map(Timestamp::as_millisecond))
                .bind(key.revoked_at.map(Timestamp::as_millisecond))
                .bind(key.last_used_at.map(Timestamp::as_millisecond))
                .bind(key.rate_limit.as_deref().map(plain));
            let added = add.execute(&mut *db).await?.rows_affected() > 0;
            if added {
                sqlx::query(CHANGED).execute(&mut *db).await?;
            }
            added
        })
    }

    /// All keys, oldest first, revoked ones too.
    ///
    /// # Errors
    /// If the database does not answer, or a key cannot be read.
    pub async fn keys(&self) -> Result<Vec<ApiKey>, RecordsError> {
        reading!(self, |db| {
            let rows = sqlx::query("SELECT * FROM api_keys ORDER BY created_at, id").fetch_all(db).await?;
            rows.iter().map(|row| key(row)).collect::<Result<_, _>>()?
        })
    }

    /// A key by its id.
    ///
    /// # Errors
    /// If the database does not answer, or the key cannot be read.
    pub async fn key(&self, id: &str) -> Result<Option<ApiKey>, RecordsError> {
        reading!(self, |db| {
            let row = sqlx::query("SELECT * FROM api_keys WHERE id = $1").bind(plain(id)).fetch_optional(db).await?;
            row.map(|row| key(&row)).transpose()?
        })
    }

    /// Replaces what may change of a key (its name, secrets, scopes, expiry, revocation and limits), and raises its version
    /// by one. `false` if it is not at the version that `key` has: somebody else was faster, or it is gone.
    ///
    /// # Errors
    /// If the database does not answer, or refuses.
    pub async fn change_key(&self, key: &ApiKey) -> Result<bool, RecordsError> {
        writing!(self, |db| {
            let change = sqlx::query(CHANGE)
                .bind(plain(&key.id))
                .bind(key.version)
                .bind(plain(&key.name))
                .bind(plain(&key.prefix))
                .bind(plain(&key.sha256))
                .bind(key.previous_sha256.as_deref().map(plain))
                .bind(key.previous_until.map(Timestamp::as_millisecond))
                .bind(json(&key.scopes))
                .bind(key.expires_at.map(Timestamp::as_millisecond))
                .bind(key.revoked_at.map(Timestamp::as_millisecond))
                .bind(key.rate_limit.as_deref().map(plain));
            let changed = change.execute(&mut *db).await?.rows_affected() > 0;
            if changed {
                sqlx::query(CHANGED).execute(&mut *db).await?;
            }
            changed
        })
    }

    /// A number that is another one after every addition or change of a key: who keeps keys compares it now and then. Uses
    /// do not count.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn keys_version(&self) -> Result<i64, RecordsError> {
        reading!(self, |db| sqlx::query_scalar("SELECT number FROM api_key_changes").fetch_one(db).await?)
    }

    /// Notes when keys were used last. No time is moved back, and keys that are gone are left out.
    ///
    /// # Errors
    /// If the database does not answer; then nothing is noted.
    pub async fn keys_used(&self, used: &[(String, Timestamp)]) -> Result<(), RecordsError> {
        // Two who note the same keys in different orders would wait for each other.
        let mut used: Vec<_> = used.iter().collect();
        used.sort();
        writing!(self, |db| {
            for (id, time) in used {
                sqlx::query(USED).bind(plain(id)).bind(time.as_millisecond()).execute(&mut *db).await?;
            }
        })
    }
}

fn key(row: &dyn Cells) -> Result<ApiKey, RecordsError> {
    let row = Columns::of("API key", row)?;
    Ok(ApiKey {
        id: row.word("id")?,
        version: row.number("version")?,
        name: row.word("name")?,
        prefix: row.word("prefix")?,
        sha256: row.word("sha256")?,
        previous_sha256: row.text("previous_sha256")?,
        previous_until: row.time("previous_until")?,
        // One that cannot be read must not become a key for all tenants.
        tenant: row.optional_word("tenant")?,
        scopes: known(row.json("scopes")?.unwrap_or_default()),
        device: row.flag("device")?,
        created_at: row.time("created_at")?.unwrap_or_default(),
        created_by: row.text("created_by")?,
        expires_at: row.time("expires_at")?,
        revoked_at: row.time("revoked_at")?,
        last_used_at: row.time("last_used_at")?,
        rate_limit: row.text("rate_limit")?,
    })
}

/// The scopes that this version knows: a newer one beside it may have given others.
fn known(words: Vec<String>) -> Scopes {
    words.iter().filter_map(|word| word.parse::<Scope>().ok()).collect()
}
