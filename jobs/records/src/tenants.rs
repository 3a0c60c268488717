//! Tenants, and what they use.

use std::{cmp::Reverse, collections::BTreeMap};

use fourmi_model::{State, TenantName};
use jiff::Timestamp;

use crate::{
    Records, RecordsError,
    row::{Cells, Columns, plain},
    store::{reading, writing},
    webhooks,
};

/// The most kinds of a usage.
const KINDS: usize = 100;

/// A tenant, as it is kept. Times are kept to the millisecond.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Its name; never changes.
    pub name: TenantName,
    /// Grows with every change: a change is made only to the tenant that was read.
    pub version: i64,
    /// What it is called, for a person.
    pub title: Option<String>,
    /// Whether people may make accounts for themselves.
    pub registration: bool,
    /// The address of its app.
    pub app_url: Option<String>,
    /// When it was made; never changes.
    pub created_at: Timestamp,
    /// The id of who made it; never changes.
    pub created_by: Option<String>,
    /// Since when its people and keys are refused.
    pub suspended_at: Option<Timestamp>,
}

/// What became of the wish to remove a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TenantRemoval {
    /// It is gone.
    Removed,
    /// There is none of this name.
    Unknown,
    /// People belong to it, or API keys that are not revoked; it stays.
    NotEmpty,
}

/// What belongs to a tenant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TenantCounts {
    /// The people, whether they may log in or not.
    pub people: u64,
    /// The API keys that are not revoked.
    pub keys: u64,
}

/// The finished jobs of a tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// How many succeeded.
    pub succeeded: u64,
    /// How many failed.
    pub failed: u64,
    /// How many were cancelled.
    pub cancelled: u64,
    /// How long they ran, all together, in milliseconds; of each the last run counts.
    pub run_ms: u64,
    /// The same for each kind, the one with most jobs first; 100 at most.
    pub kinds: Vec<KindUsage>,
}

/// The finished jobs of a kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KindUsage {
    /// The kind.
    pub kind: String,
    /// How many there were.
    pub jobs: u64,
    /// How many of them failed.
    pub failed: u64,
    /// How long they ran, all together, in milliseconds.
    pub run_ms: u64,
}

/// Whoever changes tenants waits here for others who do: of two who add names that look alike, neither would see the other's.
const TAKE_TURNS: &str = "UPDATE tenant_changes SET number = number";

const ADD: &str = "\
INSERT INTO tenants (name, version, title, registration, app_url, created_at, created_by, suspended_at) \
SELECT $1, $2, $3, $4, $5, $6, $7, $8 WHERE NOT EXISTS (SELECT 1 FROM tenants WHERE lower(name) = $9)";

const CHANGE: &str = "\
UPDATE tenants SET version = version + 1, title = $3, registration = $4, app_url = $5, suspended_at = $6 \
WHERE name = $1 AND version = $2";

const REMOVE: &str = "\
DELETE FROM tenants WHERE name = $1 \
  AND NOT EXISTS (SELECT 1 FROM api_keys WHERE tenant = $1 AND revoked_at IS NULL) \
  AND NOT EXISTS (SELECT 1 FROM users WHERE tenant = $1)";

const CHANGED: &str = "UPDATE tenant_changes SET number = number + 1";

/// Nobody is left who could see to them.
const REMOVE_WEBHOOKS: &str = "DELETE FROM webhooks WHERE tenant = $1";

const COUNTS: &str = "\
SELECT $1 AS id, (SELECT count(*) FROM users WHERE tenant = $1) AS people, \
  (SELECT count(*) FROM api_keys WHERE tenant = $1 AND revoked_at IS NULL) AS keys";

/// The clocks of machines differ: no run takes less than no time.
const USAGE: &str = "\
SELECT kind AS id, state, count(*) AS jobs, \
  CAST(sum(CASE WHEN finished_at > started_at THEN finished_at - started_at ELSE 0 END) AS BIGINT) AS run_ms \
FROM jobs WHERE tenant = $1 AND finished_at >= $2 GROUP BY kind, state";

impl Records {
    /// Adds a tenant. `false` if its name is taken, or one that differs in nothing but upper and lower case: tenants must
    /// not look alike.
    ///
    /// # Errors
    /// If the database does not answer, or refuses.
    pub async fn add_tenant(&self, tenant: &Tenant) -> Result<bool, RecordsError> {
        writing!(self, |db| {
            sqlx::query(TAKE_TURNS).execute(&mut *db).await?;
            let add = sqlx::query(ADD)
                .bind(tenant.name.as_str())
                .bind(tenant.version)
                .bind(tenant.title.as_deref().map(plain))
                .bind(tenant.registration)
                .bind(tenant.app_url.as_deref().map(plain))
                .bind(tenant.created_at.as_millisecond())
                .bind(tenant.created_by.as_deref().map(plain))
                .bind(tenant.suspended_at.map(Timestamp::as_millisecond))
                .bind(tenant.name.as_str().to_ascii_lowercase());
            let added = add.execute(&mut *db).await?.rows_affected() > 0;
            if added {
                sqlx::query(CHANGED).execute(&mut *db).await?;
            }
            added
        })
    }

    /// A tenant by its name, in the same upper and lower case.
    ///
    /// # Errors
    /// If the database does not answer, or the tenant cannot be read.
    pub async fn tenant(&self, name: &TenantName) -> Result<Option<Tenant>, RecordsError> {
        reading!(self, |db| {
            let question = sqlx::query("SELECT name AS id, * FROM tenants WHERE name = $1").bind(name.as_str());
            question.fetch_optional(db).await?.map(|row| tenant(&row)).transpose()?
        })
    }

    /// Tenants in the order of their names (that of ASCII), those after a name.
    ///
    /// # Errors
    /// If the database does not answer, or a tenant cannot be read.
    pub async fn tenants(&self, after: Option<&TenantName>, limit: usize) -> Result<Vec<Tenant>, RecordsError> {
        reading!(self, |db| {
            // No name comes before the empty one.
            let rows = sqlx::query("SELECT name AS id, * FROM tenants WHERE name > $1 ORDER BY name LIMIT $2")
                .bind(after.map_or("", TenantName::as_str))
                .bind(i64::try_from(limit).unwrap_or(i64::MAX))
                .fetch_all(db)
                .await?;
            rows.iter().map(|row| tenant(row)).collect::<Result<_, _>>()?
        })
    }

    /// Replaces what may change of a tenant (its title, registration, app and suspension), and raises its version by one.
    /// `false` if it is not at the version that `tenant` has: somebody else was faster, or it is gone.
    ///
    /// # Errors
    /// If the database does not answer, or refuses.
    pub async fn change_tenant(&self, tenant: &Tenant) -> Result<bool, RecordsError> {
        writing!(self, |db| {
            sqlx::query(TAKE_TURNS).execute(&mut *db).await?;
            let change = sqlx::query(CHANGE)
                .bind(tenant.name.as_str())
                .bind(tenant.version)
                .bind(tenant.title.as_deref().map(plain))
                .bind(tenant.registration)
                .bind(tenant.app_url.as_deref().map(plain))
                .bind(tenant.suspended_at.map(Timestamp::as_millisecond));
            let changed = change.execute(&mut *db).await?.rows_affected() > 0;
            if changed {
                sqlx::query(CHANGED).execute(&mut *db).await?;
            }
            changed
        })
    }

    /// Removes a tenant to which nobody and nothing belongs any more but finished jobs and revoked keys.
    ///
    /// # Errors
    /// If the database does not answer, or refuses.
    pub async fn remove_tenant(&self, name: &TenantName) -> Result<TenantRemoval, RecordsError> {
        writing!(self, |db| {
            sqlx::query(TAKE_TURNS).execute(&mut *db).await?;
            if sqlx::query(REMOVE).bind(name.as_str()).execute(&mut *db).await?.rows_affected() > 0 {
                sqlx::query(CHANGED).execute(&mut *db).await?;
                if sqlx::query(REMOVE_WEBHOOKS).bind(name.as_str()).execute(&mut *db).await?.rows_affected() > 0 {
                    sqlx::query(webhooks::CHANGED).execute(&mut *db).await?;
                }
                sqlx::query("DELETE FROM schedules WHERE tenant = $1").bind(name.as_str()).execute(&mut *db).await?;
                sqlx::query("DELETE FROM devices WHERE tenant = $1").bind(name.as_str()).execute(&mut *db).await?;
                // Nobody could register or remove them any more.
                sqlx::query("DELETE FROM kinds WHERE tenant = $1").bind(name.as_str()).execute(&mut *db).await?;
                sqlx::query("UPDATE kind_changes SET number = number + 1").execute(&mut *db).await?;
                TenantRemoval::Removed
            } else {
                let known = sqlx::query("SELECT 1 FROM tenants WHERE name = $1").bind(name.as_str());
                let known = known.fetch_optional(&mut *db).await?.is_some();
                if known { TenantRemoval::NotEmpty } else { TenantRemoval::Unknown }
            }
        })
    }

    /// The tenants whose people and keys are refused, in the order of their names.
    ///
    /// # Errors
    /// If the database does not answer, or a name cannot be read.
    pub async fn suspended_tenants(&self) -> Result<Vec<TenantName>, RecordsError> {
        reading!(self, |db| {
            let rows = sqlx::query("SELECT name AS id FROM tenants WHERE suspended_at IS NOT NULL ORDER BY name");
            let rows = rows.fetch_all(db).await?;
            rows.iter().map(|row| Columns::of("tenant", row)?.word("id")).collect::<Result<_, _>>()?
        })
    }

    /// A number that is another one after every addition, change or removal of a tenant: who keeps tenants compares it now
    /// and then.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn tenants_version(&self) -> Result<i64, RecordsError> {
        reading!(self, |db| sqlx::query_scalar("SELECT number FROM tenant_changes").fetch_one(db).await?)
    }

    /// How much belongs to a tenant.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn tenant_counts(&self, name: &TenantName) -> Result<TenantCounts, RecordsError> {
        reading!(self, |db| {
            let row = sqlx::query(COUNTS).bind(name.as_str()).fetch_one(db).await?;
            let row = Columns::of("tenant", &row)?;
            TenantCounts { people: row.number("people")?, keys: row.number("keys")? }
        })
    }

    /// What became of the jobs of a tenant that were over at this time or later. It looks at each of them.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn usage(&self, tenant: &TenantName, since: Timestamp) -> Result<Usage, RecordsError> {
        reading!(self, |db| {
            let question = sqlx::query(USAGE).bind(tenant.as_str()).bind(since.as_millisecond());
            let rows = question.fetch_all(db).await?;
            sum(rows.iter().map(|row| row as &dyn Cells))?
        })
    }
}

fn tenant(row: &dyn Cells) -> Result<Tenant, RecordsError> {
    let row = Columns::of("tenant", row)?;
    Ok(Tenant {
        name: row.word("name")?,
        version: row.number("version")?,
        title: row.text("title")?,
        registration: row.flag("registration")?,
        app_url: row.text("app_url")?,
        created_at: row.time("created_at")?.unwrap_or_default(),
        created_by: row.text("created_by")?,
        suspended_at: row.time("suspended_at")?,
    })
}

/// The usage of rows, each of which has the jobs of one kind and state.
fn sum<'a>(rows: impl Iterator<Item = &'a dyn Cells>) -> Result<Usage, RecordsError> {
    let mut usage = Usage::default();
    let mut kinds: BTreeMap<String, KindUsage> = BTreeMap::new();
    for row in rows {
        let row = Columns::of("usage of", row)?;
        let kind: String = row.word("id")?;
        let (jobs, run_ms): (u64, u64) = (row.number("jobs")?, row.number("run_ms")?);
        let of_kind = kinds.entry(kind.clone()).or_insert_with(|| KindUsage { kind, ..KindUsage::default() });
        match row.word("state")? {
            State::Succeeded => usage.succeeded += jobs,
            State::Failed => {
                usage.failed += jobs;
                of_kind.failed += jobs;
            }
            State::Cancelled => usage.cancelled += jobs,
            // No job is recorded before it is over.
            _ => continue,
        }
        of_kind.jobs += jobs;
        of_kind.run_ms += run_ms;
        usage.run_ms += run_ms;
    }
    usage.kinds = kinds.into_values().collect();
    usage.kinds.sort_by_key(|kind| Reverse(kind.jobs));
    usage.kinds.truncate(KINDS);
    Ok(usage)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        statement::{Statement, query_of},
        store::Store,
    };

    #[tokio::test]
    async fn usage_looks_at_the_jobs_of_a_time_only() {
        let folder = tempfile::TempDir::new().unwrap();
        let records = Records::open(&folder.path().join("records.db")).await.unwrap();
        let Store::Sqlite(sqlite) = &records.store else { unreachable!("it is a file") };
        let explained = Statement::of(format_args!("EXPLAIN QUERY PLAN {USAGE}"));
        let steps = query_of!(explained).fetch_all(&sqlite.readers).await.unwrap();
        let steps: Vec<_> = steps.iter().map(|row| row.text("detail").unwrap().unwrap()).collect();
        assert!(steps[0].contains("jobs_by_tenant (tenant=? AND finished_at>?)"), "{steps:?}");
    }
}
