//! Showing that one reads the mail of an address, and taking another one.

use std::time::Instant;

use fourmi_kinds::Notice;
use fourmi_records::User;
use jiff::Timestamp;
use salvo::{Depot, Request, Response, handler, http::StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    accepted, answer_refused_as_all, check_own_password, checking, done, myself, origin_of, people_of, posting,
    wrong_credentials,
};
use crate::{
    body,
    operation::{JSON, Operation, schema},
    people::{Act, Event, People, Purpose, Tries, names, password::Verdict},
    problem::{Code, Problem},
    routes::{submission::invalid, users::changed},
};

/// What confirms an address.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Confirmation {
    /// The token of the link in the mail.
    #[schemars(length(max = 256))]
    token: String,
    /// The password that was chosen when the account was made; not needed when an account that works takes another address.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    password: Option<String>,
}

/// Another address.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewAddress {
    /// The new e-mail address.
    #[schemars(length(max = 254))]
    email: String,
    /// One's password.
    #[schemars(length(max = 1024))]
    password: String,
}

const CONFIRM: &str = "Whoever made the account must be the one who reads the mail: so a first confirmation asks for the password, and an \
    account that a stranger made with somebody's address never becomes one that both can use.";

const CHANGE: &str = "A link is sent to the new address, which counts once it is followed. The old one is told.";

pub(super) fn operations() -> Vec<Operation> {
    vec![
        checking(posting("confirm_email", "/api/v1/auth/confirm-email", confirm))
            .open()
            .says("Confirms an address", CONFIRM)
            .reads(JSON, schema::<Confirmation>)
            .answers_empty(StatusCode::NO_CONTENT, "The address is confirmed.")
            .fails(&[Code::TokenInvalid, Code::NameTaken, Code::ChangedMeanwhile]),
        checking(posting("change_email", "/api/v1/auth/change-email", change))
            .for_people()
            .says("Takes another address", CHANGE)
            .reads(JSON, schema::<NewAddress>)
            .answers_empty(StatusCode::ACCEPTED, "A mail is on its way to the new address.")
            .fails(&[Code::RedisUnavailable]),
    ]
}

#[handler]
async fn confirm(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let (started, people) = (Instant::now(), people_of(depot)?);
    let Confirmation { token, password } = body::parse(body::read(request).await?)?;
    let one_time = people.read_token(&token, &[Purpose::ConfirmEmail]).await?;
    let gone = || Problem::new(Code::TokenInvalid, "The account was deleted.");
    let user = people.records.user(&one_time.user).await?.ok_or_else(gone)?;
    let is_first = user.email_confirmed_at.is_none();
    if is_first {
        let proven = check_chosen(&people, depot, &user, password.as_deref().unwrap_or_default()).await;
        answer_refused_as_all(started, proven).await?;
    }
    people.use_token(&one_time).await?;
    let old = user.clone();
    let user = User { email: one_time.email, email_confirmed_at: Some(Timestamp::now()), ..user };
    changed(people.records.change_user(&user).await?)?;
    let act = if is_first { Act::EmailConfirmed } else { Act::EmailChanged };
    let event = Event::of(request, depot, act).by(&user.id).to(&user.id);
    event.in_tenant(user.tenant.as_ref()).note(&people.records).await?;
    if old.email != user.email && !is_first {
        people.try_to_mail(&old, Notice::EmailChanged).await;
    }
    done(response);
    Ok(())
}

/// Checks the password that was chosen at registration.
async fn check_chosen(people: &People, depot: &Depot, user: &User, password: &str) -> Result<(), Problem> {
    let tries = Tries::of(people, user.id.as_str(), Some(&user.id), &origin_of(depot)?).await?;
    tries.admit(people).await?;
    if people.passwords.verify(password, user.password_hash.as_deref()).await? == Verdict::Wrong {
        tries.failed(people).await?;
        return Err(wrong_credentials());
    }
    Ok(tries.succeeded(people).await?)
}

#[handler]
async fn change(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let people = people_of(depot)?;
    let NewAddress { email, password } = body::parse(body::read(request).await?)?;
    let email = names::normal_email(&email).map_err(|reason| invalid("email", reason))?;
    let (_, user) = myself(&people, depot).await?;
    check_own_password(&people, depot, &user, &password).await?;
    // Whether the address is another's is told to whoever reads its mail.
    match people.records.user_by_email(&email).await? {
        Some(other) if other.id != user.id => {
            if people.may_write_for_stranger(&other, Notice::AlreadyRegistered).await? {
                people.mail(&other, Notice::AlreadyRegistered).await?;
            }
        }
        _ => people.mail_link(&user, Purpose::ConfirmEmail, Some(email)).await?,
    }
    Event::of(request, depot, Act::LinkRequested).to(&user.id).note(&people.records).await?;
    accepted(response);
    Ok(())
}
