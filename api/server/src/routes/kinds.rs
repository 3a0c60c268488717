//! The kinds of jobs: those of this build, and those that workers of other systems register.

use std::sync::Arc;

use fourmi_kinds::Audience;
use fourmi_model::{Isolation, KindName, Priority, QueueName, Scope, TenantName};
use fourmi_records::{KindChange, RegisteredKind};
use jiff::Timestamp;
use salvo::{
    Depot, Request, Response, handler,
    http::{Method, StatusCode},
};
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    body,
    caller::Caller,
    kinds::{Kind, KindPolicy, Kinds, SchemaError, check_result_schema, compile},
    operation::{Group, JSON, Operation, Place, schema, state_of},
    problem::{Code, Problem},
    query::Query,
    routes::submission::{check_label, invalid},
};

/// The most kinds that a tenant may register.
const MAX_KINDS: u64 = 100;

/// The longest summary, in characters.
const MAX_SUMMARY_CHARS: usize = 200;

/// The highest version of a schema.
const MAX_SCHEMA_VERSION: u32 = 1_000_000;

/// A kind of job.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Kind")]
struct KindDocument {
    /// The name.
    name: KindName,
    /// The queue that its jobs wait in.
    queue: QueueName,
    /// The version of the payload's schema.
    schema_version: u32,
    /// What it does, in one line.
    summary: String,
    /// Runs that may fail before a job is given up; `null` for an endless kind.
    attempts: Option<u32>,
    /// The longest that one run may take, in milliseconds.
    timeout_ms: u64,
    /// The priority when the caller names none.
    priority: Priority,
    /// Whether it runs in a process of its own.
    isolated: bool,
    /// Whether only the platform itself submits its jobs.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    internal: bool,
    /// Whether only those submit its jobs who see the jobs of others: no people of the role `user`, and no keys of devices.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    staff_only: bool,
    /// Whether only those submit its jobs who steer the queues of the whole platform (`queues:admin`, without a tenant).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    operators_only: bool,
    /// Whether a worker of another system has registered it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    registered: bool,
    /// Whose jobs it is for, if it was registered for a tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<TenantName>,
    /// JSON Schema (2020-12) of the payload.
    payload_schema: Schema,
    /// JSON Schema (2020-12) of the result.
    result_schema: Schema,
}

impl From<&Kind> for KindDocument {
    fn from(kind: &Kind) -> Self {
        let policy = kind.policy();
        // What was registered is a schema, or could not be read from the records.
        let schema = |value: &Value| Schema::try_from(value.clone()).unwrap_or_default();
        let (summary, tenant, payload_schema, result_schema) = match kind {
            Kind::Compiled(kind) => {
                (kind.summary.to_owned(), None, kind.payload_schema.clone(), kind.result_schema.clone())
            }
            Kind::Registered(kind) => {
                let (payload, result) = (schema(&kind.payload_schema), schema(&kind.result_schema));
                (kind.row.summary.clone(), kind.row.tenant.clone(), payload, result)
            }
        };
        Self {
            name: kind.name().clone(),
            queue: kind.queue(),
            schema_version: kind.schema_version(),
            summary,
            attempts: policy.attempts,
            timeout_ms: u64::try_from(policy.timeout.as_millis()).unwrap_or(u64::MAX),
            priority: policy.priority,
            isolated: policy.isolation != Isolation::InProcess,
            internal: kind.audience() == Audience::Platform,
            staff_only: kind.audience() == Audience::Staff,
            operators_only: kind.audience() == Audience::Operators,
            registered: matches!(kind, Kind::Registered(_)),
            tenant,
            payload_schema,
            result_schema,
        }
    }
}

/// All kinds of jobs.
#[derive(Serialize, JsonSchema)]
struct KindList {
    /// The kinds, by name.
    kinds: Vec<KindDocument>,
}

/// A kind to be registered.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct KindRegistration {
    /// What it does, in one line.
    #[schemars(length(min = 1, max = 200))]
    summary: String,
    /// The version of the payload's schema: another schema needs a higher one.
    #[serde(default = "first_version")]
    #[schemars(range(min = 1, max = 1_000_000))]
    schema_version: u32,
    /// JSON Schema (2020-12) of the payload, which stands alone and does not lead back to itself; 64 KiB at most.
    payload_schema: Value,
    /// JSON Schema of the result, for those who read it; results are not checked.
    #[serde(default = "anything")]
    result_schema: Value,
    /// How its jobs are treated.
    #[serde(default)]
    policy: KindPolicy,
}

fn first_version() -> u32 {
    1
}

fn anything() -> Value {
    Value::Bool(true)
}

/// The routes.
pub fn group(kinds: Arc<Kinds>) -> Group {
    table().sharing(kinds)
}

const TENANT: &str = "Those for jobs of this tenant; if nothing is said, of the caller's, or of none.";

const REGISTER: &str = "Its name begins with `x.`. It belongs to the caller's tenant, or is for jobs of no tenant. Jobs of it may be \
    submitted as of every kind, everywhere within two seconds, and wait in the queue `external` until a worker leases them \
    (`lease_jobs`). Registered again as it is, nothing changes, so that every worker may do it when it starts. Another schema \
    of the payload needs a higher `schema_version`; jobs that were accepted before keep the version that they were checked by.";

const REMOVE: &str =
    "Nobody submits jobs of it any more. Those that wait stay, and can be leased when it is registered again.";

pub(crate) fn table() -> Group {
    Group::new(
        "kinds",
        "What can be done: each kind with the schema of its payload and its result.",
        vec![
            Operation::new("list_kinds", Method::GET, "/api/v1/kinds", list_kinds)
                .says("Lists the kinds of jobs", "")
                .takes(Place::Query, "tenant", schema::<TenantName>, TENANT)
                .answers(StatusCode::OK, JSON, schema::<KindList>, "All kinds.")
                .fails(&[Code::InvalidQuery, Code::ForeignTenant]),
            named("get_kind", Method::GET, get_kind)
                .says("Describes a kind of job", "")
                .takes(Place::Query, "tenant", schema::<TenantName>, TENANT)
                .answers(StatusCode::OK, JSON, schema::<KindDocument>, "The kind.")
                .fails(&[Code::InvalidQuery, Code::ForeignTenant, Code::KindNotFound]),
            named("register_kind", Method::PUT, register_kind)
                .needs(&[Scope::JobsWork])
                .says("Registers a kind of job", REGISTER)
                .reads(JSON, schema::<KindRegistration>)
                .answers(StatusCode::OK, JSON, schema::<KindDocument>, "It was known, and is so from now on.")
                .answers(StatusCode::CREATED, JSON, schema::<KindDocument>, "It was not known before.")
                .fails(&[Code::BadRequest, Code::InvalidJson, Code::PayloadTooLarge, Code::InvalidRequest])
                .fails(&[Code::InvalidSchema, Code::KindConflict, Code::TooManyKinds, Code::RecordsUnavailable]),
            named("remove_kind", Method::DELETE, remove_kind)
                .needs(&[Scope::JobsWork])
                .says("Removes a kind that was registered", REMOVE)
                .answers_empty(StatusCode::NO_CONTENT, "It is gone.")
                .fails(&[Code::KindNotFound, Code::RecordsUnavailable]),
        ],
    )
}

fn named(id: &'static str, method: Method, handler: impl salvo::Handler) -> Operation {
    Operation::new(id, method, "/api/v1/kinds/{name}", handler).takes(
        Place::Path,
        "name",
        schema::<KindName>,
        "The kind.",
    )
}

/// Whose kinds are asked for: those of the caller, or of the tenant that is named by who is bound to none.
fn whose(request: &Request, depot: &Depot) -> Result<Option<TenantName>, Problem> {
    let named: Option<TenantName> = Query::of(request, &["tenant"])?.one("tenant")?;
    match (Caller::of(depot)?.tenant(), named) {
        (Some(own), Some(named)) if *own != named => {
            Err(Problem::field(Code::ForeignTenant, "tenant", format!("must be {own}, or left out")))
        }
        (own, named) => Ok(own.cloned().or(named)),
    }
}

/// A key that anybody may see tells nothing of what somebody has registered.
fn is_seen(caller: &Caller, kind: &Kind) -> bool {
    let is_public = caller.may(Scope::PublicRead) && !caller.may(Scope::JobsRead);
    matches!(kind, Kind::Compiled(_)) || !is_public
}

#[handler]
async fn list_kinds(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let known: Arc<Kinds> = state_of(depot)?;
    let tenant = whose(request, depot)?;
    let caller = Caller::of(depot)?;
    let kinds = known.all(tenant.as_ref());
    let kinds = kinds.iter().filter(|kind| is_seen(&caller, kind)).map(KindDocument::from).collect();
    body::write(response, StatusCode::OK, &KindList { kinds })
}

#[handler]
async fn get_kind(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let kinds: Arc<Kinds> = state_of(depot)?;
    let tenant = whose(request, depot)?;
    let name = request.param::<String>("name").unwrap_or_default();
    let caller = Caller::of(depot)?;
    let kind = kinds.get(tenant.as_ref(), &name).filter(|kind| is_seen(&caller, kind));
    let kind = kind.ok_or_else(|| Problem::new(Code::KindNotFound, "GET /api/v1/kinds lists those that there are."))?;
    body::write(response, StatusCode::OK, &KindDocument::from(&kind))
}

#[handler]
async fn register_kind(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let kinds: Arc<Kinds> = state_of(depot)?;
    let caller = Caller::of(depot)?;
    let name: KindName = request.param::<String>("name").unwrap_or_default().parse().map_err(|_| wrong_name())?;
    if !name.is_external() {
        return Err(wrong_name());
    }
    let wanted: KindRegistration = body::parse(body::read(request).await?)?;
    let row = check(wanted, name, &caller)?;
    let change = kinds.records().register_kind(&row, MAX_KINDS).await?;
    let status = match change {
        KindChange::Added => StatusCode::CREATED,
        KindChange::Changed | KindChange::Same => StatusCode::OK,
        KindChange::Newer(version) => {
            let detail = format!(
                "It has version {version} of the schema by now; older workers go on with the jobs that they can read."
            );
            return Err(Problem::new(Code::KindConflict, detail));
        }
        KindChange::OtherSchema => {
            let detail =
                "It has another schema of the payload under this version: register yours with a higher schema_version.";
            return Err(Problem::new(Code::KindConflict, detail));
        }
        KindChange::TooMany => {
            let detail = format!("A tenant has {MAX_KINDS} kinds at most: remove one that is not needed.");
            return Err(Problem::new(Code::TooManyKinds, detail));
        }
    };
    kinds.reload().await?;
    // Somebody else may have removed it in this moment.
    let kind = kinds.registered(row.tenant.as_ref(), &row.name);
    let kind = kind.ok_or_else(|| Problem::new(Code::KindConflict, "It was removed in this moment; try again."))?;
    body::write(response, status, &KindDocument::from(&Kind::Registered(kind)))
}

#[handler]
async fn remove_kind(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let kinds: Arc<Kinds> = state_of(depot)?;
    let caller = Caller::of(depot)?;
    let name = request.param::<String>("name").unwrap_or_default().parse::<KindName>().ok();
    let removed = match name.filter(KindName::is_external) {
        Some(name) => kinds.records().remove_kind(caller.tenant(), &name).await?,
        None => false,
    };
    if !removed {
        let detail = "The caller's tenant has registered no such kind.";
        return Err(Problem::new(Code::KindNotFound, detail));
    }
    kinds.reload().await?;
    response.status_code(StatusCode::NO_CONTENT);
    Ok(())
}

/// The kind as it is kept.
fn check(wanted: KindRegistration, name: KindName, caller: &Caller) -> Result<RegisteredKind, Problem> {
    check_label("summary", &wanted.summary, MAX_SUMMARY_CHARS)?;
    if !(1..=MAX_SCHEMA_VERSION).contains(&wanted.schema_version) {
        return Err(invalid("schema_version", format!("must be between 1 and {MAX_SCHEMA_VERSION}")));
    }
    if let Some((field, message)) = wanted.policy.problem() {
        return Err(invalid(format!("policy.{field}"), message));
    }
    let wrong = |field: &str, error: SchemaError| {
        let path = if error.path.is_empty() { field.to_owned() } else { format!("{field}.{}", error.path) };
        Problem::field(Code::InvalidSchema, path, error.message)
    };
    compile(&wanted.payload_schema).map_err(|error| wrong("payload_schema", error))?;
    check_result_schema(&wanted.result_schema).map_err(|error| wrong("result_schema", error))?;
    Ok(RegisteredKind {
        tenant: caller.tenant().cloned(),
        name,
        version: 0,
        schema_version: wanted.schema_version,
        summary: wanted.summary,
        payload_schema: wanted.payload_schema.to_string(),
        result_schema: wanted.result_schema.to_string(),
        policy: serde_json::to_string(&wanted.policy).map_err(Problem::internal)?,
        changed_at: Timestamp::now(),
        changed_by: caller.id().to_owned(),
    })
}

fn wrong_name() -> Problem {
    let message = format!(
        "must begin with {} and have words of lower-case letters, digits and '_', joined by dots",
        KindName::EXTERNAL
    );
    invalid("name", message)
}
