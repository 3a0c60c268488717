//! Addresses that get nothing any more.

use fourmi_model::{Channel, SuppressionReason, TenantName};
use jiff::Timestamp;

use crate::{
    Records, RecordsError,
    row::{Cells, Columns, label},
    statement::{Statement, query_of},
    store::{reading, writing},
};

/// An address that gets nothing any more. Times are kept to the millisecond.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suppression {
    /// The tenant whose messages it does not get; without one, those of none.
    pub tenant: Option<TenantName>,
    /// The way by which it is reached.
    pub channel: Channel,
    /// The address, as it is compared: numbers in the form of E.164, mail addresses in lower case.
    pub address: String,
    /// Why.
    pub reason: SuppressionReason,
    /// What a person should know of it.
    pub note: Option<String>,
    /// Since when.
    pub created_at: Timestamp,
    /// The id of who said so; nobody, if it was found out.
    pub created_by: Option<String>,
}

/// The first reason stands.
const ADD: &str = "\
INSERT INTO suppressions (tenant, channel, address, reason, note, created_at, created_by) \
VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (tenant, channel, address) DO NOTHING";

const REMOVE: &str = "DELETE FROM suppressions WHERE tenant = $1 AND channel = $2 AND address = $3";

/// That of all tenants comes first.
const FIND: &str = "\
SELECT address AS id, suppressions.* FROM suppressions \
WHERE tenant IN ('', $1) AND channel = $2 AND address = $3 ORDER BY tenant LIMIT 1";

const LIST: &str = "\
SELECT address AS id, suppressions.* FROM suppressions \
WHERE tenant = $1 AND channel = $2 AND address > $3 ORDER BY address LIMIT $4";

impl Records {
    /// Adds one; `false` if it is there already, which stays as it is.
    ///
    /// # Errors
    /// If the database does not answer, or refuses.
    pub async fn add_suppression(&self, suppression: &Suppression) -> Result<bool, RecordsError> {
        let add = Statement::of(ADD)
            .with(tenant_text(suppression.tenant.as_ref()))
            .with(suppression.channel.as_str())
            .with(&*label(&suppression.address))
            .with(suppression.reason.as_str())
            .with(suppression.note.as_deref())
            .with(suppression.created_at)
            .with(suppression.created_by.as_deref());
        writing!(self, |db| query_of!(add).execute(db).await?.rows_affected() > 0)
    }

    /// Removes one; `false` if it is not there.
    ///
    /// # Errors
    /// If the database does not answer, or refuses.
    pub async fn remove_suppression(
        &self,
        tenant: Option<&TenantName>,
        channel: Channel,
        address: &str,
    ) -> Result<bool, RecordsError> {
        let remove = Statement::of(REMOVE).with(tenant_text(tenant)).with(channel.as_str()).with(&*label(address));
        writing!(self, |db| query_of!(remove).execute(db).await?.rows_affected() > 0)
    }

    /// Whether an address gets nothing of a tenant: because of that tenant, or of all.
    ///
    /// # Errors
    /// If the database does not answer, or it cannot be read.
    pub async fn suppression(
        &self,
        tenant: Option<&TenantName>,
        channel: Channel,
        address: &str,
    ) -> Result<Option<Suppression>, RecordsError> {
        let find = Statement::of(FIND).with(tenant_text(tenant)).with(channel.as_str()).with(&*label(address));
        reading!(self, |db| query_of!(find).fetch_optional(db).await?.map(|row| suppression(&row)).transpose()?)
    }

    /// Those of a tenant, or of none, by address, those after one.
    ///
    /// # Errors
    /// If the database does not answer, or one cannot be read.
    pub async fn suppressions(
        &self,
        tenant: Option<&TenantName>,
        channel: Channel,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Suppression>, RecordsError> {
        let list = Statement::of(LIST)
            .with(tenant_text(tenant))
            .with(channel.as_str())
            .with(&*label(after.unwrap_or_default()))
            .with(i64::try_from(limit).unwrap_or(i64::MAX));
        reading!(self, |db| {
            let rows = query_of!(list).fetch_all(db).await?;
            rows.iter().map(|row| suppression(row)).collect::<Result<_, _>>()?
        })
    }
}

pub(crate) fn tenant_text(tenant: Option<&TenantName>) -> &str {
    tenant.map_or("", TenantName::as_str)
}

fn suppression(row: &dyn Cells) -> Result<Suppression, RecordsError> {
    let row = Columns::of("suppression of", row)?;
    Ok(Suppression {
        tenant: row.text("tenant")?.filter(|tenant| !tenant.is_empty()).map(|_| row.word("tenant")).transpose()?,
        channel: row.word("channel")?,
        address: row.word("address")?,
        reason: row.word("reason")?,
        note: row.text("note")?,
        created_at: row.time("created_at")?.unwrap_or_default(),
        created_by: row.text("created_by")?,
    })
}
