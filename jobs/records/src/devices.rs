//! Devices that take push notifications, and how far messages to many of them are.

use fourmi_model::{DeviceId, DevicePlatform, JobId, TenantName, TokenKind};
use jiff::Timestamp;

use crate::{
    Records, RecordsError,
    row::{Cells, Columns, label, whole},
    statement::{Statement, query_of},
    store::{Change as _, PRUNING, reading, writing},
};

/// A device, as it is kept. Times are kept to the millisecond.
#[derive(Clone, PartialEq, Eq)]
pub struct Device {
    /// Its id; stays while the token does.
    pub id: DeviceId,
    /// The tenant that it belongs to.
    pub tenant: Option<TenantName>,
    /// Where FCM finds it.
    pub token: String,
    /// What sort of address that is.
    pub token_kind: TokenKind,
    /// What it is.
    pub platform: DevicePlatform,
    /// Whoever uses it, as the app calls them; 200 characters at most.
    pub owner: String,
    /// The version of the app.
    pub app_version: Option<String>,
    /// The language of its user.
    pub locale: Option<String>,
    /// Messages to it that failed since it was registered last.
    pub failures: u64,
    /// When it was registered first.
    pub created_at: Timestamp,
    /// When it was registered last.
    pub seen_at: Timestamp,
}

/// Without the token: logs must not hold it.
impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Device").field("id", &self.id).field("platform", &self.platform).finish_non_exhaustive()
    }
}

/// Which devices: those of a tenant, or of none, to which everything given applies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceFilter {
    /// The tenant.
    pub tenant: Option<TenantName>,
    /// Only these, if it is not empty.
    pub owners: Vec<String>,
    /// Only this platform.
    pub platform: Option<DevicePlatform>,
}

/// A device, and whether its owner wants no push notifications.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addressee {
    /// The device.
    pub device: Device,
    /// Whether its owner is among the addresses that get nothing any more.
    pub suppressed: bool,
}

/// How far a message to many devices is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Broadcast {
    /// What the job that sends it has noted for its next run.
    pub place: String,
    /// Devices that it was for so far.
    pub targeted: u64,
    /// Messages that were taken.
    pub sent: u64,
    /// Devices that got nothing, though nothing is known against them.
    pub failed: u64,
    /// Devices that are no more, and were deleted.
    pub invalid: u64,
    /// Devices that were left out, because their owners want nothing.
    pub skipped: u64,
    /// Devices that may have got it twice, at most.
    pub repeated: u64,
}

/// A device that was registered, and what else that has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// The device, as it is now.
    pub device: Device,
    /// Whose it was before, if the token was known.
    pub owner_before: Option<String>,
    /// Devices of its owner that were too many: those that were not seen for longest.
    pub dropped: Vec<DeviceId>,
}

/// Rows of one step.
const STEP: i64 = 1_000;

/// A token that is known keeps its id and moves to whoever shows it.
const REGISTER: &str = "\
INSERT INTO devices (id, tenant, token, token_kind, platform, owner, app_version, locale, failures, created_at, seen_at) \
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, $9, $9) \
ON CONFLICT (tenant, token) DO UPDATE SET token_kind = excluded.token_kind, platform = excluded.platform, \
  owner = excluded.owner, app_version = excluded.app_version, locale = excluded.locale, failures = 0, \
  seen_at = excluded.seen_at \
RETURNING *";

/// Owners who want nothing are told apart here, so that a page is one question.
const ADDRESSEES: &str = "\
SELECT devices.*, CASE WHEN EXISTS (SELECT 1 FROM suppressions \
    WHERE suppressions.tenant IN ('', devices.tenant) AND channel = 'push' AND address = devices.owner) \
  THEN CAST(1 AS BIGINT) ELSE CAST(0 AS BIGINT) END AS suppressed \
FROM devices WHERE ";

const OWNER_OF: &str = "SELECT id, owner FROM devices WHERE tenant = $1 AND token = $2";

/// Those of an owner that were not seen for longest, but for so many.
const DROP: &str = "\
DELETE FROM devices WHERE id IN (SELECT id FROM devices WHERE tenant = $1 AND owner = $2 \
  ORDER BY seen_at DESC, id DESC LIMIT 1000 OFFSET $3) RETURNING id";

/// Of a device that was registered anew meanwhile, nothing is known.
const REMOVE_TOKEN: &str = "DELETE FROM devices WHERE id = $1 AND token = $2 AND seen_at <= $3";

const PRUNE: &str = "\
DELETE FROM devices WHERE id IN (SELECT id FROM devices WHERE seen_at < $1 ORDER BY seen_at LIMIT $2)";

const PRUNE_BROADCASTS: &str = "\
DELETE FROM broadcasts WHERE job IN (SELECT job FROM broadcasts WHERE changed_at < $1 LIMIT $2)";

const SAVE: &str = "\
INSERT INTO broadcasts (job, run, place, targeted, sent, failed, invalid, skipped, repeated, changed_at) \
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
ON CONFLICT (job) DO UPDATE SET run = excluded.run, place = excluded.place, targeted = excluded.targeted, sent = excluded.sent, \
  failed = excluded.failed, invalid = excluded.invalid, skipped = excluded.skipped, repeated = excluded.repeated, \
  changed_at = excluded.changed_at \
WHERE broadcasts.run <= excluded.run";

impl Records {
    /// Registers devices, all or none, and gives them as they are now. A token that the tenant knows already keeps its id and
    /// the time of its first registration, and moves to the new owner; its failures are forgotten.
    ///
    /// # Errors
    /// If the database does not answer, or refuses.
    pub async fn register_devices(&self, devices: &[Device]) -> Result<Vec<Device>, RecordsError> {
        // Two who register the same tokens in different orders would wait for each other.
        let mut places: Vec<usize> = (0..devices.len()).collect();
        places.sort_by_key(|place| (&devices[*place].tenant, &devices[*place].token));
        writing!(self, |db| {
            let mut registered = Vec::with_capacity(devices.len());
            for place in places {
                let row = query_of!(register(&devices[place])).fetch_one(&mut *db).await?;
                registered.push((place, device(&row)?));
            }
            registered.sort_by_key(|(place, _)| *place);
            registered.into_iter().map(|(_, device)| device).collect()
        })
    }

    /// Registers a device as [`Records::register_devices`] does; beyond `most` devices, its owner loses those that were not
    /// seen for longest.
    ///
    /// # Errors
    /// If the database does not answer, or refuses.
    pub async fn register_device(&self, new: &Device, most: u32) -> Result<Registered, RecordsError> {
        let tenant = new.tenant.as_ref().map_or("", TenantName::as_str);
        let owner = label(&new.owner);
        writing!(self, |db| {
            // Of two who register devices of one owner at once, neither would see the other's.
            db.take_turn(&format!("devices {tenant} {owner}")).await?;
            let known = db.row(Statement::of(OWNER_OF).with(tenant).with(new.token.as_str())).await?;
            let owner_before = match known {
                Some(row) => Some(Columns::of("device", &row)?.word("owner")?),
                None => None,
            };
            let device = device(&query_of!(register(new)).fetch_one(&mut *db).await?)?;
            let drop = Statement::of(DROP).with(tenant).with(&*owner).with(i64::from(most));
            let dropped = db.rows(drop).await?;
            let dropped = dropped.iter().map(|row| Columns::of("device", row)?.word("id"));
            Registered { device, owner_before, dropped: dropped.collect::<Result<_, RecordsError>>()? }
        })
    }

    /// A device of a tenant, or of none, by its id.
    ///
    /// # Errors
    /// If the database does not answer, or the device cannot be read.
    pub async fn device(&self, id: &DeviceId) -> Result<Option<Device>, RecordsError> {
        let question = Statement::of("SELECT * FROM devices WHERE id = $1").with(id.as_str());
        reading!(self, |db| query_of!(question).fetch_optional(db).await?.map(|row| device(&row)).transpose()?)
    }

    /// Devices by id, those after one, `limit` at most; which is the order of their first registration.
    ///
    /// # Errors
    /// If the database does not answer, or one cannot be read.
    pub async fn addressees(
        &self,
        filter: &DeviceFilter,
        after: Option<&DeviceId>,
        limit: usize,
    ) -> Result<Vec<Addressee>, RecordsError> {
        let mut list = Statement::of(ADDRESSEES);
        narrow(&mut list, filter);
        if let Some(after) = after {
            list.push(" AND id > ").bind(after.as_str());
        }
        list.push(" ORDER BY id LIMIT ").bind(whole(limit as u64));
        self.read_addressees(&list).await
    }

    /// Those of these devices that a tenant, or none, still has, in no order.
    ///
    /// # Errors
    /// If the database does not answer, or one cannot be read.
    pub async fn addressees_of(
        &self,
        tenant: Option<&TenantName>,
        ids: &[DeviceId],
    ) -> Result<Vec<Addressee>, RecordsError> {
        let mut found = Vec::with_capacity(ids.len());
        for ids in ids.chunks(500) {
            let mut list = Statement::of(ADDRESSEES);
            narrow(&mut list, &DeviceFilter { tenant: tenant.cloned(), ..DeviceFilter::default() });
            list.push(" AND id IN ").bind_all(ids.iter().map(DeviceId::as_str));
            found.extend(self.read_addressees(&list).await?);
        }
        Ok(found)
    }

    /// The device that a tenant, or none, has registered with a token of this sort.
    ///
    /// # Errors
    /// If the database does not answer, or it cannot be read.
    pub async fn addressee_of_token(
        &self,
        tenant: Option<&TenantName>,
        kind: TokenKind,
        token: &str,
    ) -> Result<Option<Addressee>, RecordsError> {
        let mut find = Statement::of(ADDRESSEES);
        narrow(&mut find, &DeviceFilter { tenant: tenant.cloned(), ..DeviceFilter::default() });
        find.push(" AND token = ").bind(token).push(" AND token_kind = ").bind(kind.as_str());
        Ok(self.read_addressees(&find).await?.pop())
    }

    async fn read_addressees(&self, list: &Statement) -> Result<Vec<Addressee>, RecordsError> {
        reading!(self, |db| {
            let rows = query_of!(*list).fetch_all(db).await?;
            let read = |row| {
                let suppressed = Columns::of("device", row)?.number::<u8>("suppressed")? > 0;
                Ok::<_, RecordsError>(Addressee { device: device(row)?, suppressed })
            };
            rows.iter().map(|row| read(row)).collect::<Result<_, _>>()?
        })
    }

    /// How many devices there are.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn count_devices(&self, filter: &DeviceFilter) -> Result<u64, RecordsError> {
        let mut count = Statement::of("SELECT '' AS id, count(*) AS number FROM devices WHERE ");
        narrow(&mut count, filter);
        self.counted(&count).await
    }

    /// How many devices were not seen since then.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn count_old_devices(&self, before: Timestamp) -> Result<u64, RecordsError> {
        let count = "SELECT '' AS id, count(*) AS number FROM devices WHERE seen_at < $1";
        self.counted(&Statement::of(count).with(before)).await
    }

    async fn counted(&self, count: &Statement) -> Result<u64, RecordsError> {
        reading!(self, |db| Columns::of("devices", &query_of!(*count).fetch_one(db).await?)?.number("number")?)
    }

    /// Removes a device. `false` if it is not there.
    ///
    /// # Errors
    /// If the database does not answer, or refuses.
    pub async fn remove_device(&self, id: &DeviceId) -> Result<bool, RecordsError> {
        let remove = Statement::of("DELETE FROM devices WHERE id = $1").with(id.as_str());
        writing!(self, |db| query_of!(remove).execute(db).await?.rows_affected() > 0)
    }

    /// Removes devices that FCM does not know any more, unless they were registered anew since they were read.
    ///
    /// # Errors
    /// If the database does not answer, or refuses.
    pub async fn remove_tokens(&self, devices: &[Device]) -> Result<u64, RecordsError> {
        let mut devices: Vec<_> = devices.iter().collect();
        devices.sort_by_key(|device| &device.id);
        writing!(self, |db| {
            let mut removed = 0;
            for device in devices {
                let remove = Statement::of(REMOVE_TOKEN).with(device.id.as_str()).with(device.token.as_str());
                removed += query_of!(remove.with(device.seen_at)).execute(&mut *db).await?.rows_affected();
            }
            removed
        })
    }

    /// Notes that a message to each of these devices failed.
    ///
    /// # Errors
    /// If the database does not answer, or refuses.
    pub async fn devices_failed(&self, ids: &[DeviceId]) -> Result<(), RecordsError> {
        let mut ids: Vec<_> = ids.iter().collect();
        ids.sort();
        writing!(self, |db| {
            for id in ids {
                let failed = "UPDATE devices SET failures = failures + 1 WHERE id = $1";
                query_of!(Statement::of(failed).with(id.as_str())).execute(&mut *db).await?;
            }
        })
    }

    /// Deletes devices that were not seen since then, a thousand at most; gives how many.
    ///
    /// # Errors
    /// If the database does not answer, or refuses.
    pub async fn prune_devices(&self, before: Timestamp) -> Result<u64, RecordsError> {
        writing!(self, |db| {
            db.take_turn(PRUNING).await?;
            db.run(Statement::of(PRUNE).with(before).with(STEP)).await?
        })
    }

    /// Forgets how far messages to many devices are that nobody has gone on with since then, a thousand at most.
    ///
    /// # Errors
    /// If the database does not answer, or refuses.
    pub async fn prune_broadcasts(&self, before: Timestamp) -> Result<u64, RecordsError> {
        writing!(self, |db| {
            db.take_turn(PRUNING).await?;
            db.run(Statement::of(PRUNE_BROADCASTS).with(before).with(STEP)).await?
        })
    }

    /// How far the message to many devices is that a job sends; `None` if nothing is noted.
    ///
    /// # Errors
    /// If the database does not answer, or it cannot be read.
    pub async fn broadcast(&self, job: &JobId) -> Result<Option<Broadcast>, RecordsError> {
        let question = "SELECT job AS id, broadcasts.* FROM broadcasts WHERE job = $1";
        let question = Statement::of(question).with(job.to_string().as_str());
        reading!(self, |db| query_of!(question).fetch_optional(db).await?.map(|row| broadcast(&row)).transpose()?)
    }

    /// Notes how far it is. `false` if a later run of the job has noted something: then another is at work.
    ///
    /// # Errors
    /// If the database does not answer, or refuses.
    pub async fn save_broadcast(
        &self,
        job: &JobId,
        run: u64,
        broadcast: &Broadcast,
        now: Timestamp,
    ) -> Result<bool, RecordsError> {
        let save = Statement::of(SAVE)
            .with(job.to_string().as_str())
            .with(whole(run))
            .with(broadcast.place.as_str())
            .with(whole(broadcast.targeted))
            .with(whole(broadcast.sent))
            .with(whole(broadcast.failed))
            .with(whole(broadcast.invalid))
            .with(whole(broadcast.skipped))
            .with(whole(broadcast.repeated))
            .with(now);
        writing!(self, |db| query_of!(save).execute(db).await?.rows_affected() > 0)
    }
}

fn register(device: &Device) -> Statement {
    Statement::of(REGISTER)
        .with(device.id.as_str())
        .with(device.tenant.as_ref().map_or("", TenantName::as_str))
        .with(device.token.as_str())
        .with(device.token_kind.as_str())
        .with(device.platform.as_str())
        .with(&*label(&device.owner))
        .with(device.app_version.as_deref())
        .with(device.locale.as_deref())
        .with(device.seen_at)
}

fn narrow(statement: &mut Statement, filter: &DeviceFilter) {
    statement.push("devices.tenant = ").bind(filter.tenant.as_ref().map_or("", TenantName::as_str));
    if !filter.owners.is_empty() {
        let owners: Vec<_> = filter.owners.iter().map(|owner| label(owner)).collect();
        statement.push(" AND owner IN ").bind_all(owners.iter().map(|owner| &**owner));
    }
    if let Some(platform) = filter.platform {
        statement.push(" AND platform = ").bind(platform.as_str());
    }
}

fn device(row: &dyn Cells) -> Result<Device, RecordsError> {
    let row = Columns::of("device", row)?;
    Ok(Device {
        id: row.word("id")?,
        tenant: row.text("tenant")?.filter(|tenant| !tenant.is_empty()).map(|_| row.word("tenant")).transpose()?,
        token: row.word("token")?,
        token_kind: row.word("token_kind")?,
        platform: row.word("platform")?,
        owner: row.word("owner")?,
        app_version: row.text("app_version")?,
        locale: row.text("locale")?,
        failures: row.number("failures")?,
        created_at: row.time("created_at")?.unwrap_or_default(),
        seen_at: row.time("seen_at")?.unwrap_or_default(),
    })
}

fn broadcast(row: &dyn Cells) -> Result<Broadcast, RecordsError> {
    let row = Columns::of("broadcast of", row)?;
    Ok(Broadcast {
        place: row.word("place")?,
        targeted: row.number("targeted")?,
        sent: row.number("sent")?,
        failed: row.number("failed")?,
        invalid: row.number("invalid")?,
        skipped: row.number("skipped")?,
        repeated: row.number("repeated")?,
    })
}
