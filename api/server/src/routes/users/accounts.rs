//! The accounts of people: made, changed, switched off and on, deleted.

use std::{str::FromStr, sync::Arc};

use fourmi_model::{Language, Role, TenantName, UserId, UserInfo};
use fourmi_records::{Leftovers, User};
use jiff::Timestamp;
use salvo::{
    Depot, Request, Response, handler,
    http::{Method, StatusCode, header::LOCATION},
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    admin, changed, changing, check_role, document, identified, named, remove, set_name, set_username, taken,
    within_reach,
};
use crate::{
    body,
    caller::Caller,
    headers,
    operation::{JSON, Operation, Place, schema, state_of},
    people::{Act, Event, People, Purpose, names, password},
    problem::{Code, Problem},
    query::Query,
    routes::submission::invalid,
};

/// A person to be invited or taken over.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewUser {
    /// The tenant; that of the caller if nothing is said. Super admins have none.
    #[serde(default)]
    tenant: Option<TenantName>,
    /// What they are: nothing that may do what the caller may not.
    #[serde(default = "user")]
    role: Role,
    /// The e-mail address, to which the invitation is sent.
    #[serde(default)]
    #[schemars(length(max = 254))]
    email: Option<String>,
    /// A name to log in with: 3 to 32 of `a-z 0-9 . _ -`.
    #[serde(default)]
    username: Option<String>,
    /// What they are called.
    #[serde(default)]
    #[schemars(length(min = 1, max = 100))]
    name: Option<String>,
    /// The language in which the platform writes to them.
    #[serde(default)]
    language: Language,
    /// For somebody who comes from another system: the hash of their password there (bcrypt, or argon2id in PHC form). No
    /// invitation is sent then, and the address counts as confirmed.
    #[serde(default)]
    #[schemars(length(max = 256))]
    password_hash: Option<String>,
}

fn user() -> Role {
    Role::User
}

/// What to change of a person; what is not said stays.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct UserPatch {
    /// What they are: nothing that may do what the caller may not. Who becomes a super admin leaves the tenant.
    role: Option<Role>,
    /// Another tenant, for callers who belong to none. What the person has made stays where it is.
    tenant: Option<TenantName>,
    /// A name to log in with; an empty text for none.
    username: Option<String>,
    /// What they are called; an empty text for nothing.
    #[schemars(length(max = 100))]
    name: Option<String>,
    /// The language in which the platform writes to them.
    language: Option<Language>,
}

/// What becomes of what a person has made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Leftovers")]
enum Data {
    /// Jobs and files stay with the tenant, under an id that no longer leads to anybody.
    #[default]
    Keep,
    /// Jobs and files go too.
    Erase,
}

impl FromStr for Data {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "keep" => Ok(Self::Keep),
            "erase" => Ok(Self::Erase),
            _ => Err("must be keep or erase"),
        }
    }
}

pub(super) fn operations() -> Vec<Operation> {
    vec![
        admin("create_user", Method::POST, "/api/v1/users", create_user)
            .says(
                "Invites a person",
                "A mail with a link to choose a password is sent to the address, if there is one.",
            )
            .reads(JSON, schema::<NewUser>)
            .answers(StatusCode::CREATED, JSON, schema::<UserInfo>, "The person.")
            .with_headers(&["Location"])
            .fails(&[Code::BadRequest, Code::InvalidJson, Code::PayloadTooLarge, Code::InvalidRequest])
            .fails(&[Code::ForeignTenant, Code::RoleTooHigh, Code::NameTaken, Code::UnknownTenant])
            .fails(&[Code::RedisUnavailable]),
        identified("get_user", Method::GET, "/api/v1/users/{id}", get_user).says("Describes a person", "").answers(
            StatusCode::OK,
            JSON,
            schema::<UserInfo>,
            "The person.",
        ),
        changing("change_user", Method::PATCH, "/api/v1/users/{id}", change_user)
            .says("Changes a person", "A role counts everywhere within two seconds: their tokens have to be renewed.")
            .reads(JSON, schema::<UserPatch>)
            .answers(StatusCode::OK, JSON, schema::<UserInfo>, "The person.")
            .fails(&[Code::BadRequest, Code::InvalidJson, Code::PayloadTooLarge, Code::InvalidRequest])
            .fails(&[Code::NameTaken, Code::ForeignTenant, Code::UnknownTenant]),
        changing("activate_user", Method::POST, "/api/v1/users/{id}/activate", activate)
            .says("Lets a person log in again", "")
            .answers(StatusCode::OK, JSON, schema::<UserInfo>, "The person."),
        changing("deactivate_user", Method::POST, "/api/v1/users/{id}/deactivate", deactivate)
            .says(
                "Lets a person log in no more",
                "Their sessions end, everywhere within two seconds. Their jobs go on.",
            )
            .answers(StatusCode::OK, JSON, schema::<UserInfo>, "The person."),
        changing("delete_user", Method::DELETE, "/api/v1/users/{id}", delete_user)
            .says("Deletes a person", DELETE)
            .takes(Place::Query, "data", schema::<Data>, "What becomes of their jobs and files.")
            .answers_empty(StatusCode::NO_CONTENT, "The person is gone.")
            .answers_empty(StatusCode::ACCEPTED, "The person is gone, and their jobs and files are being erased.")
            .fails(&[Code::InvalidQuery]),
    ]
}

const DELETE: &str = "The account, its sessions and its links are gone at once and for good; the audit log keeps the id. Jobs and files stay \
    with the tenant, under an id that no longer leads to anybody (`keep`), or go too (`erase`): jobs that are not over are cancelled.";

#[handler]
async fn create_user(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let people: Arc<People> = state_of(depot)?;
    let caller = Caller::of(depot)?;
    let wanted: NewUser = body::parse(body::read(request).await?)?;
    let tenant = tenant_of(&people, &caller, wanted.tenant, wanted.role).await?;
    check_role(&caller, wanted.role)?;
    let now = Timestamp::now();
    let is_moving = wanted.password_hash.is_some();
    let mut user =
        User { tenant, created_by: Some(caller.id().to_owned()), ..User::new(UserId::random(), wanted.role, now) };
    let email = wanted.email.map(|email| names::normal_email(&email)).transpose();
    user.email = email.map_err(|reason| invalid("email", reason))?;
    set_username(&mut user, wanted.username)?;
    set_name(&mut user.profile, wanted.name)?;
    user.profile.language = wanted.language;
    if let Some(hash) = wanted.password_hash {
        if !password::is_known_hash(&hash) {
            return Err(invalid("password_hash", "must be a hash of bcrypt, or of argon2id in PHC form"));
        }
        user.password_hash = Some(hash);
        user.email_confirmed_at = user.email.as_ref().map(|_| now);
    }
    if !is_moving {
        people.check_mail().await?;
    }
    if !people.records.add_user(&user).await? {
        return Err(taken());
    }
    if !is_moving {
        people.mail_link(&user, Purpose::Invitation, user.email.clone()).await?;
    }
    let event = Event::of(request, depot, Act::UserCreated).to(&user.id).in_tenant(user.tenant.as_ref());
    event.with("role", user.role.as_str()).note(&people.records).await?;
    response.headers_mut().insert(LOCATION, headers::value(format!("/api/v1/users/{}", user.id))?);
    body::write(response, StatusCode::CREATED, &document(&user))
}

/// The tenant of a new person.
async fn tenant_of(
    people: &People,
    caller: &Caller,
    named: Option<TenantName>,
    role: Role,
) -> Result<Option<TenantName>, Problem> {
    let tenant = match (caller.tenant(), named) {
        (Some(own), Some(named)) if *own != named => {
            return Err(Problem::field(Code::ForeignTenant, "tenant", format!("must be {own}, or left out")));
        }
        (own, named) => own.cloned().or(named),
    };
    match (&tenant, role.is_of_a_tenant()) {
        (Some(_), false) if caller.tenant().is_none() => Err(invalid("tenant", "is not for super admins")),
        (None, true) => Err(invalid("tenant", "is missing")),
        (Some(name), _) if people.records.tenant(name).await?.is_none() => {
            Err(Problem::field(Code::UnknownTenant, "tenant", format!("there is no tenant {name}: make it first")))
        }
        _ => Ok(tenant),
    }
}

#[handler]
async fn get_user(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let people: Arc<People> = state_of(depot)?;
    let user = named(&people, request, depot).await?;
    body::write(response, StatusCode::OK, &document(&user))
}

#[handler]
async fn change_user(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let people: Arc<People> = state_of(depot)?;
    let caller = Caller::of(depot)?;
    let old = within_reach(&people, request, depot).await?;
    let patch: UserPatch = body::parse(body::read(request).await?)?;
    let mut user = old.clone();
    set_username(&mut user, patch.username)?;
    set_name(&mut user.profile, patch.name)?;
    user.profile.language = patch.language.unwrap_or(user.profile.language);
    user.role = patch.role.unwrap_or(user.role);
    user.tenant = match (patch.tenant, user.role.is_of_a_tenant()) {
        (Some(tenant), _) => tenant_of(&people, &caller, Some(tenant), user.role).await?,
        (None, true) if user.tenant.is_none() => return Err(invalid("tenant", "is missing: whose will they be?")),
        (None, is_of_a_tenant) => user.tenant.filter(|_| is_of_a_tenant),
    };
    if (user.role, &user.tenant) != (old.role, &old.tenant) {
        check_role(&caller, user.role)?;
        user.access_version += 1;
    }
    changed(people.records.change_user(&user).await?)?;
    if user.access_version != old.access_version {
        people.reload().await?;
    }
    let act = if user.role == old.role { Act::UserChanged } else { Act::UserRoleChanged };
    // Whoever looks after the tenant that they leave is told, too.
    let tenant = old.tenant.as_ref().or(user.tenant.as_ref());
    let mut event = Event::of(request, depot, act).to(&user.id).in_tenant(tenant);
    if user.role != old.role {
        event = event.with("from", old.role.as_str()).with("to", user.role.as_str());
    }
    if let Some(to) = user.tenant.as_ref().filter(|_| user.tenant != old.tenant) {
        event = event.with("to_tenant", to.as_str());
    }
    event.note(&people.records).await?;
    body::write(response, StatusCode::OK, &document(&user))
}

#[handler]
async fn activate(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let people: Arc<People> = state_of(depot)?;
    let user = within_reach(&people, request, depot).await?;
    if user.deactivated_at.is_none() {
        return body::write(response, StatusCode::OK, &document(&user));
    }
    let user = User { deactivated_at: None, ..user };
    changed(people.records.change_user(&user).await?)?;
    let event = Event::of(request, depot, Act::UserActivated).to(&user.id);
    event.in_tenant(user.tenant.as_ref()).note(&people.records).await?;
    body::write(response, StatusCode::OK, &document(&user))
}

#[handler]
async fn deactivate(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let people: Arc<People> = state_of(depot)?;
    let user = within_reach(&people, request, depot).await?;
    if user.deactivated_at.is_some() {
        return body::write(response, StatusCode::OK, &document(&user));
    }
    let now = Timestamp::now();
    let user = User { deactivated_at: Some(now), access_version: user.access_version + 1, ..user };
    changed(people.records.change_user(&user).await?)?;
    people.records.revoke_sessions(&user.id, None, "deactivated", now).await?;
    people.reload().await?;
    let event = Event::of(request, depot, Act::UserDeactivated).to(&user.id);
    event.in_tenant(user.tenant.as_ref()).note(&people.records).await?;
    body::write(response, StatusCode::OK, &document(&user))
}

#[handler]
async fn delete_user(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let people: Arc<People> = state_of(depot)?;
    let data: Data = Query::of(request, &["data"])?.one("data")?.unwrap_or_default();
    let user = within_reach(&people, request, depot).await?;
    let (leftovers, word, status) = match data {
        Data::Keep => (Leftovers::Keep, "keep", StatusCode::NO_CONTENT),
        Data::Erase => (Leftovers::Erase, "erase", StatusCode::ACCEPTED),
    };
    remove(&people, &user, leftovers).await?;
    let event = Event::of(request, depot, Act::UserDeleted).to(&user.id).in_tenant(user.tenant.as_ref());
    event.with("data", word).note(&people.records).await?;
    response.status_code(status);
    Ok(())
}
