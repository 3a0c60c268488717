//! Tenants, for those who run the platform and, each their own, for those who look after one.

use std::{str::FromStr, sync::Arc};

use fourmi_kinds::catalogue;
use fourmi_model::{LimitName, LimitState, QueueName, Scope, TenantInfo, TenantName};
use fourmi_records::{KindUsage, Tenant, TenantRemoval};
use jiff::{SignedDuration, Timestamp};
use salvo::{
    Depot, Request, Response, handler,
    http::{Method, StatusCode, header::LOCATION},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::{
    body,
    caller::Caller,
    headers,
    operation::{Group, JSON, Operation, Place, schema, state_of},
    people::{Act, Event, People},
    problem::{Code, Problem},
    query::{self, Query},
    redis::in_time,
    routes::submission::{check_label, invalid},
};

/// The longest title, in characters.
const MAX_TITLE_CHARS: usize = 100;

/// The longest address of an app, in characters.
const MAX_URL_CHARS: usize = 500;

/// A tenant to be made.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewTenant {
    /// The name, which never changes.
    name: TenantName,
    /// What it is called, for people.
    #[serde(default)]
    #[schemars(length(min = 1, max = 100))]
    title: Option<String>,
    /// Whether people may make accounts for themselves.
    #[serde(default)]
    registration: bool,
    /// The address of its app, where the links in mails to its people lead.
    #[serde(default)]
    #[schemars(length(max = 500))]
    app_url: Option<String>,
}

/// What to change of a tenant; what is not said stays.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct TenantPatch {
    /// What it is called; an empty text for nothing but its name.
    #[schemars(length(max = 100))]
    title: Option<String>,
    /// Whether people may make accounts for themselves.
    registration: Option<bool>,
    /// The address of its app; an empty text for none.
    #[schemars(length(max = 500))]
    app_url: Option<String>,
    /// Whether its people and keys are refused.
    suspended: Option<bool>,
}

/// A page of tenants.
#[derive(Serialize, JsonSchema)]
struct TenantList {
    /// The tenants, by name.
    tenants: Vec<TenantInfo>,
    /// Where the next page starts: the next call's `after`. `null` at the end.
    next: Option<String>,
}

/// A tenant, with what it has.
#[derive(Serialize, JsonSchema)]
struct TenantDetails {
    #[serde(flatten)]
    tenant: TenantInfo,
    /// Its people.
    people: u64,
    /// Its API keys that were not taken back.
    keys: u64,
    /// Its place in the queues; set by `set_weight` and `set_limit`.
    queues: Vec<TenantInQueue>,
}

/// The place of a tenant in a queue.
#[derive(Serialize, JsonSchema)]
struct TenantInQueue {
    /// The queue.
    queue: QueueName,
    /// How many of its jobs start in its turn.
    weight: u32,
    /// What limits its jobs.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<LimitState>,
}

/// What a tenant has used.
#[derive(Serialize, JsonSchema)]
struct UsageDocument {
    /// From when on: jobs that were over since then and are recorded.
    #[schemars(with = "String", extend("format" = "date-time"))]
    since: Timestamp,
    /// Jobs that have succeeded.
    succeeded: u64,
    /// Jobs that have failed.
    failed: u64,
    /// Jobs that were cancelled.
    cancelled: u64,
    /// How long all of them ran, from their start to their end, in milliseconds.
    run_ms: u64,
    /// The same by kind; those with most jobs first, a hundred at most.
    kinds: Vec<KindUsageDocument>,
}

/// What a tenant has used of a kind.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "KindUsage")]
struct KindUsageDocument {
    /// The kind.
    kind: String,
    /// Jobs that were over.
    jobs: u64,
    /// Those of them that had failed.
    failed: u64,
    /// How long all of them ran, in milliseconds.
    run_ms: u64,
}

/// The most tenants of a page.
type Limit = query::Limit<100, 1_000>;

/// How many days back.
#[derive(JsonSchema)]
#[schemars(inline, extend("default" = 30))]
struct Days(#[schemars(range(min = 1, max = 366))] i64);

impl FromStr for Days {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.parse().ok().filter(|number| (1..=366).contains(number));
        number.map(Self).ok_or("must be a number from 1 to 366")
    }
}

/// The routes.
pub fn group(people: Arc<People>) -> Group {
    table().sharing(people)
}

pub(crate) fn table() -> Group {
    let run = &[Scope::TenantsAdmin];
    // Who looks after a tenant's people sees what it has, too.
    let see = &[Scope::TenantsAdmin, Scope::UsersAdmin];
    let operations = vec![
        Operation::new("create_tenant", Method::POST, "/api/v1/tenants", create_tenant)
            .needs(run)
            .says("Makes a tenant", "Then it can have people (`create_user`) and keys (`create_key`).")
            .reads(JSON, schema::<NewTenant>)
            .answers(StatusCode::CREATED, JSON, schema::<TenantInfo>, "The tenant.")
            .with_headers(&["Location"])
            .fails(&[Code::BadRequest, Code::InvalidJson, Code::PayloadTooLarge, Code::InvalidRequest])
            .fails(&[Code::NameTaken, Code::RecordsUnavailable]),
        Operation::new("list_tenants", Method::GET, "/api/v1/tenants", list_tenants)
            .needs(see)
            .says("Lists tenants", "Whoever belongs to one sees that one.")
            .takes(Place::Query, "limit", schema::<Limit>, "The most tenants of a page.")
            .takes(Place::Query, "after", schema::<TenantName>, "Where the page starts: `next` of the page before.")
            .answers(StatusCode::OK, JSON, schema::<TenantList>, "A page.")
            .fails(&[Code::InvalidQuery, Code::RecordsUnavailable]),
        identified("get_tenant", Method::GET, "/api/v1/tenants/{name}", get_tenant)
            .needs(see)
            .says("Describes a tenant", "With its people, keys, weights and limits.")
            .answers(StatusCode::OK, JSON, schema::<TenantDetails>, "The tenant.")
            .fails(&[Code::RedisUnavailable]),
        identified("change_tenant", Method::PATCH, "/api/v1/tenants/{name}", change_tenant)
            .needs(run)
            .says("Changes a tenant", "In force everywhere within two seconds.")
            .reads(JSON, schema::<TenantPatch>)
            .answers(StatusCode::OK, JSON, schema::<TenantInfo>, "The tenant.")
            .fails(&[Code::BadRequest, Code::InvalidJson, Code::PayloadTooLarge, Code::InvalidRequest])
            .fails(&[Code::ChangedMeanwhile]),
        identified("delete_tenant", Method::DELETE, "/api/v1/tenants/{name}", delete_tenant)
            .needs(run)
            .says("Deletes a tenant that is empty", "Its people and keys go first. Its jobs and files stay.")
            .answers_empty(StatusCode::NO_CONTENT, "It is gone.")
            .fails(&[Code::TenantNotEmpty]),
        identified("get_tenant_usage", Method::GET, "/api/v1/tenants/{name}/usage", get_usage)
            .needs(see)
            .says("Says what a tenant has used", "By the records of its jobs.")
            .takes(Place::Query, "days", schema::<Days>, "How many days back.")
            .answers(StatusCode::OK, JSON, schema::<UsageDocument>, "The figures.")
            .fails(&[Code::InvalidQuery]),
    ];
    Group::new("tenants", "Apps, customers or teams, whose people, keys, jobs and files nobody else sees.", operations)
}

fn identified(id: &'static str, method: Method, path: &'static str, handler: impl salvo::Handler) -> Operation {
    Operation::new(id, method, path, handler)
        .takes(Place::Path, "name", schema::<TenantName>, "The tenant.")
        .fails(&[Code::TenantNotFound, Code::RecordsUnavailable])
}

#[handler]
async fn create_tenant(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let people: Arc<People> = state_of(depot)?;
    let caller = Caller::of(depot)?;
    let NewTenant { name, title, registration, app_url } = body::parse(body::read(request).await?)?;
    let tenant = Tenant {
        name,
        version: 1,
        title: title.map(check_title).transpose()?,
        registration,
        app_url: app_url.map(check_url).transpose()?,
        created_at: Timestamp::now(),
        created_by: Some(caller.id().to_owned()),
        suspended_at: None,
    };
    if !people.records.add_tenant(&tenant).await? {
        return Err(Problem::new(Code::NameTaken, "There is a tenant of this name, perhaps in other letters."));
    }
    let event = Event::of(request, depot, Act::TenantCreated).to(&tenant.name).in_tenant(Some(&tenant.name));
    event.note(&people.records).await?;
    response.headers_mut().insert(LOCATION, headers::value(format!("/api/v1/tenants/{}", tenant.name))?);
    body::write(response, StatusCode::CREATED, &document(tenant))
}

#[handler]
async fn list_tenants(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let people: Arc<People> = state_of(depot)?;
    let caller = Caller::of(depot)?;
    let query = Query::of(request, &["limit", "after"])?;
    let limit = query.one::<Limit>("limit")?.unwrap_or_default().0;
    let after: Option<TenantName> = query.one("after")?;
    let mut tenants = match caller.tenant() {
        Some(own) => people.records.tenant(own).await?.into_iter().collect(),
        None => people.records.tenants(after.as_ref(), limit + 1).await?,
    };
    let more = tenants.len() > limit;
    tenants.truncate(limit);
    let next = tenants.last().filter(|_| more).map(|tenant| tenant.name.to_string());
    body::write(response, StatusCode::OK, &TenantList { tenants: tenants.into_iter().map(document).collect(), next })
}

#[handler]
async fn get_tenant(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let people: Arc<People> = state_of(depot)?;
    let tenant = named(&people, request, depot).await?;
    let counts = people.records.tenant_counts(&tenant.name).await?;
    let limit_name = LimitName::of_tenant(&tenant.name);
    let mut queues = Vec::new();
    for queue in catalogue().queues() {
        let weights = in_time(people.queues.weights(&queue)).await?;
        let limits = in_time(people.queues.limits(&queue)).await?;
        queues.push(TenantInQueue {
            weight: weights.get(&tenant.name).copied().unwrap_or(1),
            limit: limits.into_iter().find(|limit| limit.name == limit_name),
            queue,
        });
    }
    let (people, keys) = (counts.people, counts.keys);
    body::write(response, StatusCode::OK, &TenantDetails { tenant: document(tenant), people, keys, queues })
}

#[handler]
async fn change_tenant(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let people: Arc<People> = state_of(depot)?;
    let mut tenant = named(&people, request, depot).await?;
    let patch: TenantPatch = body::parse(body::read(request).await?)?;
    match patch.title {
        None => {}
        Some(title) if title.is_empty() => tenant.title = None,
        Some(title) => tenant.title = Some(check_title(title)?),
    }
    match patch.app_url {
        None => {}
        Some(url) if url.is_empty() => tenant.app_url = None,
        Some(url) => tenant.app_url = Some(check_url(url)?),
    }
    tenant.registration = patch.registration.unwrap_or(tenant.registration);
    if let Some(suspended) = patch.suspended {
        tenant.suspended_at = suspended.then(|| tenant.suspended_at.unwrap_or_else(Timestamp::now));
    }
    if !people.records.change_tenant(&tenant).await? {
        let detail = "Somebody else has changed the tenant in this moment; try again.";
        return Err(Problem::new(Code::ChangedMeanwhile, detail));
    }
    people.reload().await?;
    let event = Event::of(request, depot, Act::TenantChanged).to(&tenant.name).in_tenant(Some(&tenant.name));
    event.with("suspended", tenant.suspended_at.is_some()).note(&people.records).await?;
    body::write(response, StatusCode::OK, &document(tenant))
}

#[handler]
async fn delete_tenant(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let people: Arc<People> = state_of(depot)?;
    let tenant = named(&people, request, depot).await?;
    match people.records.remove_tenant(&tenant.name).await? {
        TenantRemoval::Removed => {}
        TenantRemoval::Unknown => return Err(unknown()),
        TenantRemoval::NotEmpty => {
            return Err(Problem::new(Code::TenantNotEmpty, "Delete its people and take back its keys first."));
        }
    }
    people.reload().await?;
    let event = Event::of(request, depot, Act::TenantDeleted).to(&tenant.name).in_tenant(Some(&tenant.name));
    event.note(&people.records).await?;
    response.status_code(StatusCode::NO_CONTENT);
    Ok(())
}

#[handler]
async fn get_usage(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let people: Arc<People> = state_of(depot)?;
    let tenant = named(&people, request, depot).await?;
    let Days(days) = Query::of(request, &["days"])?.one("days")?.unwrap_or(Days(30));
    let since = Timestamp::now() - SignedDuration::from_hours(24 * days);
    let usage = people.records.usage(&tenant.name, since).await?;
    let kind = |usage: KindUsage| KindUsageDocument {
        kind: usage.kind,
        jobs: usage.jobs,
        failed: usage.failed,
        run_ms: usage.run_ms,
    };
    let usage = UsageDocument {
        since,
        succeeded: usage.succeeded,
        failed: usage.failed,
        cancelled: usage.cancelled,
        run_ms: usage.run_ms,
        kinds: usage.kinds.into_iter().map(kind).collect(),
    };
    body::write(response, StatusCode::OK, &usage)
}

/// The tenant that the address names, if the caller sees it.
async fn named(people: &People, request: &Request, depot: &Depot) -> Result<Tenant, Problem> {
    let caller = Caller::of(depot)?;
    let name: TenantName = request.param::<String>("name").unwrap_or_default().parse().map_err(|_| unknown())?;
    if caller.tenant().is_some_and(|own| *own != name) {
        return Err(unknown());
    }
    people.records.tenant(&name).await?.ok_or_else(unknown)
}

fn unknown() -> Problem {
    Problem::new(Code::TenantNotFound, "It was never made, or was deleted.")
}

fn check_title(title: String) -> Result<String, Problem> {
    check_label("title", &title, MAX_TITLE_CHARS)?;
    Ok(title)
}

fn check_url(text: String) -> Result<String, Problem> {
    let is_short = text.chars().count() <= MAX_URL_CHARS;
    let url = Url::parse(&text).ok().filter(|url| is_short && matches!(url.scheme(), "http" | "https"));
    match url.filter(|url| url.username().is_empty() && url.password().is_none() && url.query().is_none()) {
        Some(url) => Ok(url.as_str().trim_end_matches('/').to_owned()),
        None => {
            Err(invalid("app_url", "must be an http or https address without a query, such as https://app.example.org"))
        }
    }
}

fn document(tenant: Tenant) -> TenantInfo {
    TenantInfo {
        name: tenant.name,
        title: tenant.title,
        registration: tenant.registration,
        app_url: tenant.app_url,
        suspended_at: tenant.suspended_at,
        created_at: tenant.created_at,
        created_by: tenant.created_by,
    }
}
