//! Kinds of jobs that workers of other systems have registered.

use fourmi_model::{KindName, TenantName};
use jiff::Timestamp;

use crate::{
    Records, RecordsError,
    row::{Cells, Columns, plain, whole},
    store::{reading, writing},
};

/// A registered kind, as it is kept. Times are kept to the millisecond.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredKind {
    /// Whose it is; without one, it is for jobs of no tenant.
    pub tenant: Option<TenantName>,
    /// Its name, of which a tenant has one.
    pub name: KindName,
    /// Grows with every change.
    pub version: i64,
    /// The version of the payload's schema.
    pub schema_version: u32,
    /// What it does, in one line.
    pub summary: String,
    /// JSON Schema of the payload.
    pub payload_schema: String,
    /// JSON Schema of the result.
    pub result_schema: String,
    /// How its jobs are treated, in JSON.
    pub policy: String,
    /// When it was registered or changed last.
    pub changed_at: Timestamp,
    /// The id of who did that.
    pub changed_by: String,
}

/// What became of the wish to register a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KindChange {
    /// It was not there, and is now.
    Added,
    /// It is as it was wanted from now on.
    Changed,
    /// It was so already.
    Same,
    /// It has this version of the schema, which is newer; it stays.
    Newer(u32),
    /// It has another schema of the payload under the same version; it stays.
    OtherSchema,
    /// The tenant has as many as it may; nothing was added.
    TooMany,
}

/// Who registers waits here for others who do, so that what is looked at first stays as it is.
const TAKE_TURNS: &str = "UPDATE kind_changes SET number = number";

const CHANGED: &str = "UPDATE kind_changes SET number = number + 1";

const ALL: &str = "SELECT name AS id, * FROM kinds";

const PUT: &str = "\
INSERT INTO kinds (tenant, name, version, schema_version, summary, payload_schema, result_schema, policy, changed_at, changed_by) \
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
ON CONFLICT (tenant, name) DO UPDATE SET version = excluded.version, schema_version = excluded.schema_version, \
  summary = excluded.summary, payload_schema = excluded.payload_schema, result_schema = excluded.result_schema, \
  policy = excluded.policy, changed_at = excluded.changed_at, changed_by = excluded.changed_by";

impl Records {
    /// Registers a kind, or changes it, if its tenant has fewer than `most` others. Its `version` is given here.
    ///
    /// # Errors
    /// If the database does not answer, or refuses.
    pub async fn register_kind(&self, kind: &RegisteredKind, most: u64) -> Result<KindChange, RecordsError> {
        let tenant = owner(kind.tenant.as_ref());
        writing!(self, |db| {
            sqlx::query(TAKE_TURNS).execute(&mut *db).await?;
            let question = sqlx::query("SELECT name AS id, * FROM kinds WHERE tenant = $1 AND name = $2");
            let known = question.bind(tenant).bind(kind.name.as_str()).fetch_optional(&mut *db).await?;
            let known = known.map(|row| read(&row)).transpose()?;
            let count = sqlx::query_scalar("SELECT count(*) FROM kinds WHERE tenant = $1").bind(tenant);
            let count: i64 = count.fetch_one(&mut *db).await?;
            let change = judge(kind, known.as_ref(), count >= whole(most));
            if matches!(change, KindChange::Added | KindChange::Changed) {
                let put = sqlx::query(PUT)
                    .bind(tenant)
                    .bind(kind.name.as_str())
                    .bind(known.map_or(1, |known| known.version + 1))
                    .bind(i64::from(kind.schema_version))
                    .bind(plain(&kind.summary))
                    .bind(plain(&kind.payload_schema))
                    .bind(plain(&kind.result_schema))
                    .bind(plain(&kind.policy))
                    .bind(kind.changed_at.as_millisecond())
                    .bind(plain(&kind.changed_by));
                put.execute(&mut *db).await?;
                sqlx::query(CHANGED).execute(&mut *db).await?;
            }
            change
        })
    }

    /// Forgets a kind; whether it was there.
    ///
    /// # Errors
    /// If the database does not answer, or refuses.
    pub async fn remove_kind(&self, tenant: Option<&TenantName>, name: &KindName) -> Result<bool, RecordsError> {
        writing!(self, |db| {
            let remove = sqlx::query("DELETE FROM kinds WHERE tenant = $1 AND name = $2");
            let remove = remove.bind(owner(tenant)).bind(name.as_str());
            let removed = remove.execute(&mut *db).await?.rows_affected() > 0;
            if removed {
                sqlx::query(CHANGED).execute(&mut *db).await?;
            }
            removed
        })
    }

    /// All registered kinds.
    ///
    /// # Errors
    /// If the database does not answer, or a kind cannot be read.
    pub async fn registered_kinds(&self) -> Result<Vec<RegisteredKind>, RecordsError> {
        reading!(self, |db| {
            let rows = sqlx::query(ALL).fetch_all(db).await?;
            rows.iter().map(|row| read(row)).collect::<Result<_, _>>()?
        })
    }

    /// A number that is another one after every change of a registered kind: who keeps kinds compares it now and then.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn kinds_version(&self) -> Result<i64, RecordsError> {
        reading!(self, |db| sqlx::query_scalar("SELECT number FROM kind_changes").fetch_one(db).await?)
    }
}

fn owner(tenant: Option<&TenantName>) -> &str {
    tenant.map_or("", TenantName::as_str)
}

/// What is to become of a kind, if it is known so.
fn judge(kind: &RegisteredKind, known: Option<&RegisteredKind>, is_full: bool) -> KindChange {
    match known {
        None if is_full => KindChange::TooMany,
        None => KindChange::Added,
        Some(known) if known.schema_version > kind.schema_version => KindChange::Newer(known.schema_version),
        Some(known) => {
            let is_same_version = known.schema_version == kind.schema_version;
            let is_same_schema = are_alike(&known.payload_schema, &kind.payload_schema);
            if is_same_version && !is_same_schema {
                return KindChange::OtherSchema;
            }
            let is_same = is_same_version
                && known.summary == kind.summary
                && are_alike(&known.result_schema, &kind.result_schema)
                && are_alike(&known.policy, &kind.policy);
            if is_same { KindChange::Same } else { KindChange::Changed }
        }
    }
}

/// Whether two texts are the same JSON, in whatever order their fields stand.
fn are_alike(one: &str, other: &str) -> bool {
    let value = |text| serde_json::from_str::<serde_json::Value>(text).ok();
    one == other || value(one).is_some_and(|one| Some(one) == value(other))
}

fn read(row: &dyn Cells) -> Result<RegisteredKind, RecordsError> {
    let row = Columns::of("kind", row)?;
    let tenant: String = row.text("tenant")?.unwrap_or_default();
    Ok(RegisteredKind {
        // One that cannot be read must not become a kind of no tenant.
        tenant: if tenant.is_empty() { None } else { row.optional_word("tenant")? },
        name: row.word("name")?,
        version: row.number("version")?,
        schema_version: row.number("schema_version")?,
        summary: row.word("summary")?,
        payload_schema: row.word("payload_schema")?,
        result_schema: row.word("result_schema")?,
        policy: row.word("policy")?,
        changed_at: row.time("changed_at")?.unwrap_or_default(),
        changed_by: row.word("changed_by")?,
    })
}
