//! People, for those who look after them.

mod access;
mod accounts;
mod list;

use std::sync::Arc;

use fourmi_model::{Profile, Role, Scope, UserId, UserInfo};
use fourmi_records::{Leftovers, RecordsError, User, UserChange, UserRemoval};
use salvo::{Depot, Request, http::Method};

use crate::{
    caller::Caller,
    operation::{Group, Operation, Place, schema},
    people::{People, names},
    problem::{Code, Problem},
    routes::submission::invalid,
};

/// The routes.
pub fn group(people: Arc<People>) -> Group {
    table().sharing(people)
}

pub(crate) fn table() -> Group {
    let mut operations = list::operations();
    operations.extend(accounts::operations());
    operations.extend(access::operations());
    Group::new("users", "People that one looks after.", operations)
}

fn admin(id: &'static str, method: Method, path: &'static str, handler: impl salvo::Handler) -> Operation {
    Operation::new(id, method, path, handler).needs(&[Scope::UsersAdmin]).fails(&[Code::RecordsUnavailable])
}

fn identified(id: &'static str, method: Method, path: &'static str, handler: impl salvo::Handler) -> Operation {
    admin(id, method, path, handler)
        .takes(Place::Path, "id", schema::<UserId>, "The person.")
        .fails(&[Code::UnknownUser])
}

/// A route that touches what only a caller who may do as much as the person may touch.
fn changing(id: &'static str, method: Method, path: &'static str, handler: impl salvo::Handler) -> Operation {
    identified(id, method, path, handler).fails(&[Code::RoleTooHigh, Code::LastSuperAdmin, Code::ChangedMeanwhile])
}

/// The person that the address names, if the caller looks after them.
async fn named(people: &People, request: &Request, depot: &Depot) -> Result<User, Problem> {
    let caller = Caller::of(depot)?;
    let id: UserId = request.param::<String>("id").unwrap_or_default().parse().map_err(|_| unknown())?;
    let user = people.records.user(&id).await?.ok_or_else(unknown)?;
    let sees = caller.tenant().is_none_or(|own| user.tenant.as_ref() == Some(own));
    if sees { Ok(user) } else { Err(unknown()) }
}

/// The same, if the caller may do all that the person may: otherwise they could become more than they are.
async fn within_reach(people: &People, request: &Request, depot: &Depot) -> Result<User, Problem> {
    let user = named(people, request, depot).await?;
    check_role(&Caller::of(depot)?, user.role)?;
    Ok(user)
}

/// Nobody gives what they do not have.
fn check_role(caller: &Caller, role: Role) -> Result<(), Problem> {
    let is_beyond = caller.tenant().is_some() && !role.is_of_a_tenant();
    if is_beyond || !caller.scopes().covers(role.scopes()) {
        return Err(Problem::new(Code::RoleTooHigh, format!("What a {role} may do is more than you may.")));
    }
    Ok(())
}

pub(super) async fn remove(people: &People, user: &User, leftovers: Leftovers) -> Result<(), Problem> {
    match people.records.remove_user(&user.id, leftovers).await? {
        UserRemoval::Removed => Ok(people.reload().await?),
        UserRemoval::Unknown => Err(unknown()),
        UserRemoval::LastSuperAdmin => Err(last_super_admin()),
    }
}

/// Sets what a text says; an empty one takes it away.
pub(super) fn set(
    field: &mut Option<String>,
    text: Option<String>,
    check: impl FnOnce(String) -> Result<String, Problem>,
) -> Result<(), Problem> {
    match text {
        None => {}
        Some(text) if text.is_empty() => *field = None,
        Some(text) => *field = Some(check(text)?),
    }
    Ok(())
}

pub(super) fn set_name(profile: &mut Profile, name: Option<String>) -> Result<(), Problem> {
    set(&mut profile.name, name, |name| match names::check_name(&name) {
        Ok(()) => Ok(name),
        Err(reason) => Err(invalid("name", reason)),
    })
}

pub(super) fn set_username(user: &mut User, username: Option<String>) -> Result<(), Problem> {
    let check = |text: String| names::normal_username(&text).map_err(|reason| invalid("username", reason));
    set(&mut user.username, username, check)?;
    if user.username.is_none() && user.email.is_none() {
        return Err(invalid("username", "is all that this person can log in with"));
    }
    Ok(())
}

/// A cursor that cannot be read is the caller's mistake.
pub(super) fn cursor_problem(error: RecordsError) -> Problem {
    match error {
        RecordsError::Cursor => Problem::new(Code::InvalidCursor, "Take `next` of the page before."),
        other => other.into(),
    }
}

pub(super) fn unknown() -> Problem {
    Problem::new(Code::UnknownUser, "The account was never made, or was deleted.")
}

fn taken() -> Problem {
    Problem::new(Code::NameTaken, "Take another, or look for the account that has it.")
}

fn last_super_admin() -> Problem {
    Problem::new(Code::LastSuperAdmin, "Nobody could run the platform any more: make another super admin first.")
}

/// What is said if a change was not made.
pub(super) fn changed(change: UserChange) -> Result<(), Problem> {
    match change {
        UserChange::Changed => Ok(()),
        UserChange::Taken => Err(taken()),
        UserChange::LastSuperAdmin => Err(last_super_admin()),
        UserChange::Stale => {
            let detail = "Somebody else has changed the account in this moment; try again.";
            Err(Problem::new(Code::ChangedMeanwhile, detail))
        }
    }
}

pub(super) fn document(user: &User) -> UserInfo {
    UserInfo {
        id: user.id.clone(),
        username: user.username.clone().or_else(|| user.email.clone()).unwrap_or_default(),
        email: user.email.clone(),
        email_confirmed: user.email_confirmed_at.is_some(),
        role: user.role,
        tenant: user.tenant.clone(),
        active: user.deactivated_at.is_none(),
        has_password: user.password_hash.is_some(),
        second_factor: user.totp_confirmed_at.is_some(),
        profile: user.profile.clone(),
        created_at: user.created_at,
        created_by: user.created_by.clone(),
        last_login_at: user.last_login_at,
    }
}
