//! The kinds that jobs may have: those of this build, and those that workers of other systems have registered.

mod policy;
mod schema;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use fourmi_kinds::{Audience, Catalogue, InvalidPayload, KindInfo, catalogue};
use fourmi_model::{KindName, Policy, QueueName, TenantName};
use fourmi_records::{Records, RecordsError, RegisteredKind};
use serde_json::{Value, value::RawValue};
use tokio::{
    sync::Mutex,
    time::{MissedTickBehavior, interval},
};

pub(crate) use policy::KindPolicy;
pub(crate) use schema::{SchemaError, check_result_schema, compile};

/// How soon every server knows of a change.
const REFRESH: Duration = Duration::from_secs(1);

/// The kinds. Those that are registered are in the records, and every server knows all of them.
pub struct Kinds {
    compiled: &'static Catalogue,
    records: Records,
    known: ArcSwap<Known>,
    /// Held while it is learned what has changed, so that nobody puts older news in the place of newer ones.
    learning: Mutex<()>,
}

/// Of one tenant, or of none: the kinds by name.
type OfTenant = BTreeMap<KindName, Arc<Registered>>;

/// All registered kinds as they were at a version of the records.
#[derive(Default)]
struct Known {
    version: i64,
    by_tenant: HashMap<Option<TenantName>, OfTenant>,
}

/// A kind that was registered.
pub(crate) struct Registered {
    pub(crate) row: RegisteredKind,
    pub(crate) policy: Policy,
    pub(crate) payload_schema: Value,
    pub(crate) result_schema: Value,
    validator: jsonschema::Validator,
}

/// A kind, wherever it is known from.
#[derive(Clone)]
pub(crate) enum Kind {
    /// From this build.
    Compiled(&'static KindInfo),
    /// From a worker of another system.
    Registered(Arc<Registered>),
}

impl Kinds {
    /// The kinds of this build, and those in the records.
    ///
    /// # Errors
    /// If the records do not answer.
    pub async fn open(records: Records) -> Result<Self, RecordsError> {
        let kinds = Self { compiled: catalogue(), records, known: ArcSwap::default(), learning: Mutex::default() };
        kinds.reload().await?;
        Ok(kinds)
    }

    /// The records of the kinds.
    pub(crate) fn records(&self) -> &Records {
        &self.records
    }

    /// The kind that jobs of a tenant, or of none, have under a name.
    pub(crate) fn get(&self, tenant: Option<&TenantName>, name: &str) -> Option<Kind> {
        if let Some(kind) = self.compiled.get(name) {
            return Some(Kind::Compiled(kind));
        }
        let name: KindName = name.parse().ok()?;
        self.registered(tenant, &name).map(Kind::Registered)
    }

    /// The kind that a tenant, or none, has registered under a name.
    pub(crate) fn registered(&self, tenant: Option<&TenantName>, name: &KindName) -> Option<Arc<Registered>> {
        self.known.load().by_tenant.get(&tenant.cloned())?.get(name).cloned()
    }

    /// All kinds that jobs of a tenant, or of none, may have, by name.
    pub(crate) fn all(&self, tenant: Option<&TenantName>) -> Vec<Kind> {
        let known = self.known.load();
        let registered = known.by_tenant.get(&tenant.cloned()).into_iter().flat_map(BTreeMap::values).cloned();
        let mut all: Vec<Kind> =
            self.compiled.iter().map(Kind::Compiled).chain(registered.map(Kind::Registered)).collect();
        all.sort_by(|one, other| one.name().cmp(other.name()));
        all
    }

    /// The kinds that jobs of a tenant, or of none, may have, in words.
    pub(crate) fn in_words(&self, tenant: Option<&TenantName>) -> String {
        let names: Vec<_> = self.all(tenant).iter().map(|kind| kind.name().to_string()).collect();
        format!("The kinds are {}.", names.join(", "))
    }

    /// Learns at once what has changed.
    ///
    /// # Errors
    /// If the records do not answer; what was known is kept then.
    pub(crate) async fn reload(&self) -> Result<(), RecordsError> {
        let _alone = self.learning.lock().await;
        // A change that comes in between is met again at the next look.
        let version = self.records.kinds_version().await?;
        let rows = self.records.registered_kinds().await?;
        self.known.store(Arc::new(Known::of(version, rows, &self.known.load())));
        Ok(())
    }

    /// Keeps up with the records.
    pub(crate) async fn keep_up(self: Arc<Self>) {
        let mut failing = false;
        let mut looks = interval(REFRESH);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            match self.look().await {
                Ok(()) => failing = false,
                Err(error) if !failing => {
                    failing = true;
                    tracing::warn!(%error, "changes of registered kinds cannot be read; those that were known go on");
                }
                Err(_) => {}
            }
        }
    }

    async fn look(&self) -> Result<(), RecordsError> {
        if self.records.kinds_version().await? == self.known.load().version { Ok(()) } else { self.reload().await }
    }
}

impl Known {
    fn of(version: i64, rows: Vec<RegisteredKind>, before: &Self) -> Self {
        let mut known = Self { version, ..Self::default() };
        for row in rows {
            let (tenant, name) = (row.tenant.clone(), row.name.clone());
            let earlier = before.by_tenant.get(&tenant).and_then(|kinds| kinds.get(&name));
            let kind = match earlier.filter(|earlier| earlier.row == row) {
                Some(kind) => Ok(Arc::clone(kind)),
                None => Registered::read(row).map(Arc::new),
            };
            match kind {
                Ok(kind) => drop(known.by_tenant.entry(tenant).or_default().insert(name, kind)),
                // A newer server may know more of what a kind can be.
                Err(error) => tracing::error!(job.kind = %name, %error, "a registered kind cannot be read"),
            }
        }
        known
    }
}

impl Registered {
    fn read(row: RegisteredKind) -> anyhow::Result<Self> {
        let policy: KindPolicy = serde_json::from_str(&row.policy)?;
        let payload_schema: Value = serde_json::from_str(&row.payload_schema)?;
        let result_schema = serde_json::from_str(&row.result_schema)?;
        let validator = compile(&payload_schema).map_err(anyhow::Error::new)?;
        Ok(Self { policy: policy.into(), payload_schema, result_schema, validator, row })
    }

    fn check(&self, payload: &str) -> Result<Box<RawValue>, InvalidPayload> {
        let value: Value = serde_json::from_str(payload).map_err(|error| InvalidPayload::new("", error.to_string()))?;
        if let Err(error) = self.validator.validate(&value) {
            // The words of a schema may be long, and those of a payload are the caller's.
            let message: String = error.masked().to_string().chars().take(300).collect();
            return Err(InvalidPayload::new(schema::dotted(error.instance_path().as_str()), message));
        }
        // In one writing, so that equal payloads are equal texts.
        serde_json::value::to_raw_value(&value).map_err(|error| InvalidPayload::new("", error.to_string()))
    }
}

impl Kind {
    pub(crate) fn name(&self) -> &KindName {
        match self {
            Self::Compiled(kind) => &kind.name,
            Self::Registered(kind) => &kind.row.name,
        }
    }

    /// The queue that its jobs wait in.
    pub(crate) fn queue(&self) -> QueueName {
        match self {
            Self::Compiled(kind) => kind.queue.clone(),
            Self::Registered(_) => QueueName::external(),
        }
    }

    pub(crate) fn schema_version(&self) -> u32 {
        match self {
            Self::Compiled(kind) => kind.schema_version,
            Self::Registered(kind) => kind.row.schema_version,
        }
    }

    pub(crate) fn policy(&self) -> &Policy {
        match self {
            Self::Compiled(kind) => &kind.policy,
            Self::Registered(kind) => &kind.policy,
        }
    }

    /// Who submits its jobs.
    pub(crate) fn audience(&self) -> Audience {
        match self {
            Self::Compiled(kind) => kind.audience,
            Self::Registered(_) => Audience::Everyone,
        }
    }

    /// Reads a payload as JSON and gives it back in one writing, so that equal payloads are equal texts.
    ///
    /// # Errors
    /// The first mistake, by the path of the field.
    pub(crate) fn check(&self, payload: &str) -> Result<Box<RawValue>, InvalidPayload> {
        match self {
            Self::Compiled(kind) => kind.check(payload),
            Self::Registered(kind) => kind.check(payload),
        }
    }
}
