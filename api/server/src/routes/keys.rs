//! API keys: who may do what.

use std::sync::Arc;

use fourmi_model::{KeyInfo, NewSecret, Scope, Scopes, TenantName};
use fourmi_records::ApiKey;
use fourmi_settings::RateLimit;
use jiff::{SignedDuration, Timestamp};
use salvo::{
    Depot, Request, Response, handler,
    http::{Method, StatusCode, header::LOCATION},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use crate::{
    body,
    caller::Caller,
    headers,
    keys::Keys,
    operation::{Group, JSON, Operation, Place, schema, state_of},
    people::{Act, Event},
    problem::{Code, Problem},
    query::{self, Query},
    routes::submission::{check_label, invalid},
};

/// The longest name, in characters.
const MAX_NAME_CHARS: usize = 100;

/// How long the secret before a rotation stays valid, in seconds, if nothing is said: a day.
const GRACE_S: u32 = 86_400;

/// The longest that it may: thirty days.
const MAX_GRACE_S: u32 = 30 * 86_400;

/// A key to be made.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct KeySubmission {
    /// What it is for, for people.
    #[schemars(length(min = 1, max = 100))]
    name: String,
    /// What it may do: nothing that whoever makes it may not do.
    scopes: Scopes,
    /// The tenant whose jobs and files it sees, and to whom belongs what is submitted with it; without one, those of all.
    #[serde(default)]
    tenant: Option<TenantName>,
    /// Whether it sees only what was submitted with it.
    #[serde(default)]
    device: bool,
    /// How often it may ask, such as `100/60` (in 60 seconds).
    #[serde(default)]
    rate_limit: Option<String>,
    /// When it ends.
    #[serde(default)]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    expires_at: Option<Timestamp>,
}

/// What to change of a key; what is not said stays.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct KeyPatch {
    /// What it is for, for people.
    #[serde(default)]
    #[schemars(length(min = 1, max = 100))]
    name: Option<String>,
    /// What it may do.
    #[serde(default)]
    scopes: Option<Scopes>,
    /// How often it may ask; an empty text for as often as the settings say.
    #[serde(default)]
    rate_limit: Option<String>,
    /// When it ends.
    #[serde(default)]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    expires_at: Option<Timestamp>,
}

/// How a key changes its secret.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Rotation {
    /// How long the old secret stays valid too, in seconds; 0 if it has become known.
    #[schemars(range(min = 0, max = 2_592_000))]
    grace_s: u32,
}

impl Default for Rotation {
    fn default() -> Self {
        Self { grace_s: GRACE_S }
    }
}

/// A page of keys.
#[derive(Serialize, JsonSchema)]
struct KeyList {
    /// The keys, oldest first.
    keys: Vec<KeyInfo>,
    /// Where the next page starts: the next call's `after`. `null` at the end.
    next: Option<String>,
}

/// The most keys of a page.
type Limit = query::Limit<100, 1_000>;

/// The routes.
pub fn group(keys: Arc<Keys>) -> Group {
    table().sharing(keys)
}

pub(crate) fn table() -> Group {
    let admin = &[Scope::KeysAdmin];
    let operations = vec![
        Operation::new("create_key", Method::POST, "/api/v1/keys", create_key)
            .needs(admin)
            .says("Makes an API key", "Its secret is in this answer and nowhere else.")
            .reads(JSON, schema::<KeySubmission>)
            .answers(StatusCode::CREATED, JSON, schema::<NewSecret>, "The key, with its secret.")
            .with_headers(&["Location"])
            .fails(&[Code::BadRequest, Code::InvalidJson, Code::PayloadTooLarge, Code::InvalidRequest])
            .fails(&[Code::ForeignTenant, Code::UnknownTenant]),
        Operation::new("list_keys", Method::GET, "/api/v1/keys", list_keys)
            .needs(admin)
            .says("Lists API keys", "With those that have ended or were taken back.")
            .takes(Place::Query, "limit", schema::<Limit>, "The most keys of a page.")
            .takes(Place::Query, "after", schema::<String>, "Where the page starts: `next` of the page before.")
            .answers(StatusCode::OK, JSON, schema::<KeyList>, "A page.")
            .fails(&[Code::InvalidQuery]),
        Operation::new("get_own_key", Method::GET, "/api/v1/keys/current", get_own_key)
            .says("Describes the key that one asks with", "For every key. Whoever is logged in has none.")
            .answers(StatusCode::OK, JSON, schema::<KeyInfo>, "The key.")
            .fails(&[Code::UnknownKey]),
        identified("get_key", Method::GET, "/api/v1/keys/{id}", get_key)
            .needs(admin)
            .says("Describes a key", "")
            .answers(StatusCode::OK, JSON, schema::<KeyInfo>, "The key."),
        identified("change_key", Method::PATCH, "/api/v1/keys/{id}", change_key)
            .needs(admin)
            .says("Changes a key", "In force everywhere within two seconds. Tenant and device stay as they are.")
            .reads(JSON, schema::<KeyPatch>)
            .answers(StatusCode::OK, JSON, schema::<KeyInfo>, "The key.")
            .fails(&[Code::BadRequest, Code::InvalidJson, Code::PayloadTooLarge, Code::InvalidRequest])
            .fails(&[Code::KeyRevoked, Code::LastAdminKey, Code::ChangedMeanwhile]),
        identified("rotate_key", Method::POST, "/api/v1/keys/{id}/rotate", rotate_key)
            .needs(admin)
            .says(
                "Gives a key a new secret",
                "The old one stays valid for a while, so that nobody is locked out meanwhile.",
            )
            .reads(JSON, schema::<Rotation>)
            .answers(StatusCode::OK, JSON, schema::<NewSecret>, "The key, with its new secret.")
            .fails(&[Code::BadRequest, Code::InvalidJson, Code::PayloadTooLarge, Code::InvalidRequest])
            .fails(&[Code::KeyRevoked, Code::ChangedMeanwhile]),
        identified("revoke_key", Method::DELETE, "/api/v1/keys/{id}", revoke_key)
            .needs(admin)
            .says("Takes a key back", "For good, and everywhere within two seconds. It is still listed.")
            .answers_empty(StatusCode::NO_CONTENT, "It opens nothing any more.")
            .fails(&[Code::LastAdminKey, Code::ChangedMeanwhile]),
    ];
    Group::new("keys", "Who may do what.", operations)
}

fn identified(id: &'static str, method: Method, path: &'static str, handler: impl salvo::Handler) -> Operation {
    Operation::new(id, method, path, handler)
        .takes(Place::Path, "id", schema::<String>, "The key.")
        .fails(&[Code::UnknownKey, Code::RecordsUnavailable])
}

#[handler]
async fn create_key(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let keys: Arc<Keys> = state_of(depot)?;
    let caller = Caller::of(depot)?;
    let wanted: KeySubmission = body::parse(body::read(request).await?)?;
    let tenant = match (caller.tenant(), wanted.tenant) {
        (Some(own), Some(named)) if *own != named => {
            return Err(Problem::field(Code::ForeignTenant, "tenant", format!("must be {own}, or left out")));
        }
        (own, named) => own.cloned().or(named),
    };
    check_name(&wanted.name)?;
    check_scopes(wanted.scopes, tenant.as_ref(), &caller)?;
    check_device(wanted.device, wanted.scopes)?;
    check_tenant(&keys, tenant.as_ref()).await?;
    let (secret, prefix, sha256) = Keys::new_secret();
    let key = ApiKey {
        id: format!("key-{}", &Uuid::now_v7().simple().to_string()[8..]),
        version: 1,
        name: wanted.name,
        prefix,
        sha256,
        previous_sha256: None,
        previous_until: None,
        tenant,
        scopes: wanted.scopes,
        device: wanted.device,
        created_at: Timestamp::now(),
        created_by: Some(caller.id().to_owned()),
        expires_at: check_end(wanted.expires_at)?,
        revoked_at: None,
        last_used_at: None,
        rate_limit: check_rate(wanted.rate_limit)?,
    };
    if !keys.records().add_key(&key).await? {
        return Err(Problem::internal("the id or the secret of a new key was there already"));
    }
    keys.reload().await?;
    note(&keys, request, depot, Act::KeyCreated, &key).await?;
    response.headers_mut().insert(LOCATION, headers::value(format!("/api/v1/keys/{}", key.id))?);
    body::write(response, StatusCode::CREATED, &NewSecret { key: document(key), secret })
}

#[handler]
async fn list_keys(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let keys: Arc<Keys> = state_of(depot)?;
    let caller = Caller::of(depot)?;
    let query = Query::of(request, &["limit", "after"])?;
    let limit = query.one::<Limit>("limit")?.unwrap_or_default().0;
    let after: Option<String> = query.one("after")?;
    let mut all = keys.records().keys().await?;
    all.retain(|key| sees(&caller, key));
    let start = match after {
        None => 0,
        Some(id) => match all.iter().position(|key| key.id == id) {
            Some(place) => place + 1,
            None => return Err(Problem::field(Code::InvalidQuery, "after", "is no key of this list")),
        },
    };
    let rest = all.len().saturating_sub(start);
    let page: Vec<_> = all.into_iter().skip(start).take(limit).map(document).collect();
    let next = page.last().filter(|_| rest > limit).map(|key| key.id.clone());
    body::write(response, StatusCode::OK, &KeyList { keys: page, next })
}

#[handler]
async fn get_own_key(depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let keys: Arc<Keys> = state_of(depot)?;
    let caller = Caller::of(depot)?;
    let key = keys.records().key(caller.id()).await?.ok_or_else(unknown_key)?;
    body::write(response, StatusCode::OK, &document(key))
}

#[handler]
async fn get_key(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let key = named(request, depot).await?;
    body::write(response, StatusCode::OK, &document(key))
}

#[handler]
async fn change_key(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let keys: Arc<Keys> = state_of(depot)?;
    let caller = Caller::of(depot)?;
    let mut key = not_revoked(named(request, depot).await?)?;
    let KeyPatch { name, scopes, rate_limit, expires_at } = body::parse(body::read(request).await?)?;
    if let Some(name) = name {
        check_name(&name)?;
        key.name = name;
    }
    if let Some(scopes) = scopes {
        check_scopes(scopes, key.tenant.as_ref(), &caller)?;
        check_device(key.device, scopes)?;
        if !scopes.contains(Scope::KeysAdmin) {
            check_not_last(&keys, &key).await?;
        }
        key.scopes = scopes;
    }
    if let Some(rate) = rate_limit {
        key.rate_limit = check_rate(Some(rate).filter(|rate| !rate.is_empty()))?;
    }
    if expires_at.is_some() {
        check_not_last(&keys, &key).await?;
        key.expires_at = check_end(expires_at)?;
    }
    save(&keys, &key).await?;
    note(&keys, request, depot, Act::KeyChanged, &key).await?;
    body::write(response, StatusCode::OK, &document(key))
}

#[handler]
async fn rotate_key(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let keys: Arc<Keys> = state_of(depot)?;
    let caller = Caller::of(depot)?;
    let mut key = not_revoked(named(request, depot).await?)?;
    let body = body::read(request).await?;
    let Rotation { grace_s } = if body.is_empty() { Rotation::default() } else { body::parse(body)? };
    if grace_s > MAX_GRACE_S {
        return Err(invalid("grace_s", format!("must be {MAX_GRACE_S} (thirty days) at most")));
    }
    // Whoever gets the secret can do what the key can.
    check_scopes(key.scopes, key.tenant.as_ref(), &caller)?;
    let (secret, prefix, sha256) = Keys::new_secret();
    let until = Timestamp::now().checked_add(SignedDuration::from_secs(grace_s.into())).map_err(Problem::internal)?;
    let old = std::mem::replace(&mut key.sha256, sha256);
    (key.previous_sha256, key.previous_until) = if grace_s > 0 { (Some(old), Some(until)) } else { (None, None) };
    key.prefix = prefix;
    save(&keys, &key).await?;
    note(&keys, request, depot, Act::KeyRotated, &key).await?;
    body::write(response, StatusCode::OK, &NewSecret { key: document(key), secret })
}

#[handler]
async fn revoke_key(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let keys: Arc<Keys> = state_of(depot)?;
    let mut key = named(request, depot).await?;
    if key.revoked_at.is_none() {
        check_not_last(&keys, &key).await?;
        key.revoked_at = Some(Timestamp::now());
        save(&keys, &key).await?;
        note(&keys, request, depot, Act::KeyRevoked, &key).await?;
    }
    response.status_code(StatusCode::NO_CONTENT);
    Ok(())
}

/// The key that the address names, if the caller sees it.
async fn named(request: &Request, depot: &Depot) -> Result<ApiKey, Problem> {
    let keys: Arc<Keys> = state_of(depot)?;
    let caller = Caller::of(depot)?;
    let id: String = request.param("id").unwrap_or_default();
    let key = keys.records().key(&id).await?;
    key.filter(|key| sees(&caller, key)).ok_or_else(unknown_key)
}

fn sees(caller: &Caller, key: &ApiKey) -> bool {
    caller.tenant().is_none_or(|own| key.tenant.as_ref() == Some(own))
}

fn not_revoked(key: ApiKey) -> Result<ApiKey, Problem> {
    match key.revoked_at {
        None => Ok(key),
        Some(_) => Err(Problem::new(Code::KeyRevoked, "Make another.")),
    }
}

async fn save(keys: &Keys, key: &ApiKey) -> Result<(), Problem> {
    if !keys.records().change_key(key).await? {
        return Err(Problem::new(
            Code::ChangedMeanwhile,
            "Somebody else has changed the key in this moment; try again.",
        ));
    }
    Ok(keys.reload().await?)
}

async fn note(keys: &Keys, request: &Request, depot: &Depot, act: Act, key: &ApiKey) -> Result<(), Problem> {
    let event = Event::of(request, depot, act).to(&key.id).in_tenant(key.tenant.as_ref());
    Ok(event.with("scopes", json!(key.scopes)).note(keys.records()).await?)
}

/// A misspelt tenant would be one that nobody looks after.
async fn check_tenant(keys: &Keys, tenant: Option<&TenantName>) -> Result<(), Problem> {
    match tenant {
        Some(name) if keys.records().tenant(name).await?.is_none() => {
            Err(Problem::field(Code::UnknownTenant, "tenant", format!("there is no tenant {name}: make it first")))
        }
        _ => Ok(()),
    }
}

/// Whether somebody could still make keys without this one.
async fn check_not_last(keys: &Keys, key: &ApiKey) -> Result<(), Problem> {
    let opens = |key: &ApiKey| {
        key.tenant.is_none()
            && key.scopes.contains(Scope::KeysAdmin)
            && key.revoked_at.is_none()
            && key.expires_at.is_none()
    };
    if !opens(key) || keys.records().keys().await?.iter().any(|other| other.id != key.id && opens(other)) {
        return Ok(());
    }
    Err(Problem::new(Code::LastAdminKey, "Nobody could make keys any more: make another with keys:admin first."))
}

fn check_name(name: &str) -> Result<(), Problem> {
    check_label("name", name, MAX_NAME_CHARS)
}

fn check_scopes(scopes: Scopes, tenant: Option<&TenantName>, caller: &Caller) -> Result<(), Problem> {
    if scopes.is_empty() {
        return Err(invalid("scopes", "must be one at least"));
    }
    if let Some(scope) = scopes.iter().find(|scope| !caller.may(*scope)) {
        return Err(invalid("scopes", format!("cannot hold {scope}, which you do not have")));
    }
    if let Some(scope) = scopes.iter().find(|scope| tenant.is_some() && !scope.is_for_tenants()) {
        return Err(invalid("scopes", format!("cannot hold {scope} for a tenant: it concerns what all share")));
    }
    Ok(())
}

fn check_device(device: bool, scopes: Scopes) -> Result<(), Problem> {
    let beyond = [
        Scope::JobsWork,
        Scope::MetricsRead,
        Scope::KeysAdmin,
        Scope::UsersAdmin,
        Scope::AuditRead,
        Scope::TenantsAdmin,
    ];
    match beyond.into_iter().find(|scope| device && scopes.contains(*scope)) {
        Some(scope) => Err(invalid("scopes", format!("cannot hold {scope} for a device"))),
        None => Ok(()),
    }
}

fn check_rate(rate: Option<String>) -> Result<Option<String>, Problem> {
    let readable = rate.as_deref().is_none_or(|rate| RateLimit::parse(rate).is_some());
    if readable { Ok(rate) } else { Err(invalid("rate_limit", "must be such as 100/60: a hundred in sixty seconds")) }
}

fn check_end(end: Option<Timestamp>) -> Result<Option<Timestamp>, Problem> {
    let is_past = end.is_some_and(|end| end <= Timestamp::now());
    if is_past { Err(invalid("expires_at", "must be in the future")) } else { Ok(end) }
}

fn unknown_key() -> Problem {
    Problem::new(Code::UnknownKey, "It was never made.")
}

fn document(key: ApiKey) -> KeyInfo {
    KeyInfo {
        id: key.id,
        name: key.name,
        prefix: key.prefix,
        scopes: key.scopes,
        tenant: key.tenant,
        device: key.device,
        rate_limit: key.rate_limit,
        created_at: key.created_at,
        created_by: key.created_by,
        expires_at: key.expires_at,
        revoked_at: key.revoked_at,
        last_used_at: key.last_used_at,
        previous_until: key.previous_until.filter(|until| *until > Timestamp::now()),
    }
}
