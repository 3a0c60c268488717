//! The audit log: who did what that concerns security, from where, and how it ended.

use std::sync::Arc;

use fourmi_model::{AuditEvent, Outcome, Scope, TenantName};
use fourmi_records::AuditFilter;
use jiff::Timestamp;
use salvo::{
    Depot, Request, Response, handler,
    http::{Method, StatusCode},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    body,
    caller::Caller,
    operation::{Group, JSON, Operation, Place, schema, state_of},
    people::{Act, Event, People},
    problem::{Code, Problem},
    query::{self, Query},
    routes::users::cursor_problem,
};

/// A page of events.
#[derive(Serialize, JsonSchema)]
struct AuditPage {
    /// The events, newest first.
    events: Vec<AuditEvent>,
    /// Where the next page starts: the next call's `cursor`. `null` at the end.
    next: Option<String>,
}

/// How the keys that sign tokens are replaced.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct TokenKeyRotation {
    /// Whether the keys until now may be known to others: then what they signed holds no longer, and everybody's tokens have
    /// to be renewed.
    have_become_known: bool,
}

/// The key that signs tokens from now on.
#[derive(Serialize, JsonSchema)]
struct TokenKey {
    /// Its number, which tokens name as `kid`.
    number: i64,
}

/// The most events of a page.
type Limit = query::Limit<50, 200>;

/// The routes.
pub fn group(people: Arc<People>) -> Group {
    table().sharing(people)
}

pub(crate) fn table() -> Group {
    let operations = vec![
        Operation::new("list_audit_events", Method::GET, "/api/v1/audit", list_events)
            .needs(&[Scope::AuditRead])
            .says("Reads the audit log", "It is only added to. Whoever belongs to a tenant reads what concerns it.")
            .takes(Place::Query, "tenant", schema::<TenantName>, "Only what concerns this tenant.")
            .takes(Place::Query, "actor", schema::<String>, "Only what this person or key did.")
            .takes(
                Place::Query,
                "target",
                schema::<String>,
                "Only what was done to this person, key, session or tenant.",
            )
            .takes(Place::Query, "action", schema::<String>, "Only this, or what begins with this word (`user`).")
            .takes(Place::Query, "outcome", schema::<Outcome>, "Only what ended so.")
            .takes(Place::Query, "after", body::time, "Only from this time on.")
            .takes(Place::Query, "before", body::time, "Only before this time.")
            .takes(Place::Query, "limit", schema::<Limit>, "The most events of a page.")
            .takes(Place::Query, "cursor", schema::<String>, "Where the page starts: `next` of the page before.")
            .answers(StatusCode::OK, JSON, schema::<AuditPage>, "A page.")
            .fails(&[Code::InvalidQuery, Code::InvalidCursor, Code::RecordsUnavailable]),
        Operation::new("rotate_token_keys", Method::POST, "/api/v1/auth/token-keys/rotate", rotate)
            .needs(&[Scope::TenantsAdmin])
            .says("Signs tokens with a new key", "It happens by itself now and then.")
            .may_read(JSON, schema::<TokenKeyRotation>)
            .answers(StatusCode::OK, JSON, schema::<TokenKey>, "The new key.")
            .fails(&[Code::BadRequest, Code::InvalidJson, Code::PayloadTooLarge, Code::InvalidRequest])
            .fails(&[Code::RecordsUnavailable]),
    ];
    Group::new("security", "What concerns the security of the platform.", operations)
}

#[handler]
async fn list_events(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let people: Arc<People> = state_of(depot)?;
    let caller = Caller::of(depot)?;
    let names = ["tenant", "actor", "target", "action", "outcome", "after", "before", "limit", "cursor"];
    let query = Query::of(request, &names)?;
    let named: Option<TenantName> = query.one("tenant")?;
    let after: Option<Timestamp> = query.one("after")?;
    let before: Option<Timestamp> = query.one("before")?;
    let limit = query.one::<Limit>("limit")?.unwrap_or_default().0;
    let cursor: Option<String> = query.one("cursor")?;
    if caller.tenant().is_some() && named.as_ref().is_some_and(|named| Some(named) != caller.tenant()) {
        return body::write(response, StatusCode::OK, &AuditPage { events: Vec::new(), next: None });
    }
    let filter = AuditFilter {
        tenant: caller.tenant().cloned().or(named),
        actor: query.one("actor")?,
        target: query.one("target")?,
        action: query.one("action")?,
        outcome: query.one("outcome")?,
        after,
        before,
    };
    let (events, next) = people.records.audit(&filter, cursor.as_deref(), limit).await.map_err(cursor_problem)?;
    body::write(response, StatusCode::OK, &AuditPage { events, next })
}

#[handler]
async fn rotate(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let people: Arc<People> = state_of(depot)?;
    let body = body::read(request).await?;
    let TokenKeyRotation { have_become_known } =
        if body.is_empty() { TokenKeyRotation::default() } else { body::parse(body)? };
    let number = people.rotate_keys(have_become_known).await?;
    let event = Event::of(request, depot, Act::TokenKeyRotated).to(number);
    event.with("have_become_known", have_become_known).note(&people.records).await?;
    body::write(response, StatusCode::OK, &TokenKey { number })
}
