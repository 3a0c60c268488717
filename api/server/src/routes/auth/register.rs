//! Making an account for oneself.

use std::time::Instant;

use fourmi_kinds::Notice;
use fourmi_model::{Language, Role, TenantName, UserId};
use fourmi_records::User;
use jiff::Timestamp;
use salvo::{Depot, Request, Response, handler, http::StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Address, accepted, answer_as_all, checking, hash_new, people_of, posting};
use crate::{
    body,
    operation::{JSON, Operation, schema},
    people::{Act, Event, People, Purpose, names},
    problem::{Code, Problem},
    routes::submission::invalid,
};

/// A person who wants an account.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Registration {
    /// The tenant, which is the app that they want to use.
    tenant: TenantName,
    /// The e-mail address, to which a link is sent.
    #[schemars(length(max = 254))]
    email: String,
    /// The password: 8 to 128 characters, hard to guess.
    #[schemars(length(min = 8, max = 128))]
    password: String,
    /// What they are called.
    #[serde(default)]
    #[schemars(length(min = 1, max = 100))]
    name: Option<String>,
    /// The language in which the platform writes to them.
    #[serde(default)]
    language: Language,
}

const REGISTER: &str = "The answer is the same whether or not there is an account of this address: whoever reads its mail is told. The \
    account works when the address is confirmed (`confirm_email`) with the password that was chosen here.";

pub(super) fn operations() -> Vec<Operation> {
    vec![
        checking(posting("register", "/api/v1/auth/register", register))
            .open()
            .says("Makes an account for oneself", REGISTER)
            .reads(JSON, schema::<Registration>)
            .answers_empty(StatusCode::ACCEPTED, "A mail is on its way.")
            .fails(&[Code::RegistrationClosed, Code::WeakPassword, Code::RedisUnavailable]),
        posting("resend_confirmation", "/api/v1/auth/resend-confirmation", resend)
            .open()
            .says(
                "Sends the link that confirms an address again",
                "The answer is the same for every address. Whoever was written to a moment ago is not again.",
            )
            .reads(JSON, schema::<Address>)
            .answers_empty(StatusCode::ACCEPTED, "If there is something to confirm, a mail is on its way.")
            .fails(&[Code::RedisUnavailable]),
    ]
}

#[handler]
async fn register(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let (started, people) = (Instant::now(), people_of(depot)?);
    let wanted: Registration = body::parse(body::read(request).await?)?;
    let email = names::normal_email(&wanted.email).map_err(|reason| invalid("email", reason))?;
    if let Some(name) = &wanted.name {
        names::check_name(name).map_err(|reason| invalid("name", reason))?;
    }
    check_open(&people, &wanted.tenant).await?;
    let known = [&email, wanted.name.as_deref().unwrap_or_default(), wanted.tenant.as_str()];
    let hash = hash_new(&people, "password", &wanted.password, &known).await?;
    people.check_mail().await?;
    let answer = add(&people, wanted, email, hash, Event::of(request, depot, Act::Registered)).await;
    answer_as_all(started, answer).await?;
    accepted(response);
    Ok(())
}

/// A tenant that is not there is as closed as others.
async fn check_open(people: &People, tenant: &TenantName) -> Result<(), Problem> {
    let tenant = people.records.tenant(tenant).await?;
    let is_open = tenant.is_some_and(|tenant| tenant.registration && tenant.suspended_at.is_none());
    if people.settings.registration && is_open {
        return Ok(());
    }
    Err(Problem::new(Code::RegistrationClosed, "Ask an admin of the app for an invitation."))
}

async fn add(people: &People, wanted: Registration, email: String, hash: String, event: Event) -> Result<(), Problem> {
    let now = Timestamp::now();
    let mut user = User {
        tenant: Some(wanted.tenant),
        email: Some(email.clone()),
        password_hash: Some(hash),
        password_changed_at: Some(now),
        ..User::new(UserId::random(), Role::User, now)
    };
    user.profile.name = wanted.name;
    user.profile.language = wanted.language;
    if people.records.add_user(&user).await? {
        event.to(&user.id).in_tenant(user.tenant.as_ref()).note(&people.records).await?;
        return confirm(people, &user, email).await;
    }
    // Removed in this moment: then it was never there.
    let Some(there) = people.records.user_by_email(&email).await? else { return Ok(()) };
    if there.email_confirmed_at.is_some() || there.password_hash.is_none() || there.tenant != user.tenant {
        return match people.may_write_for_stranger(&there, Notice::AlreadyRegistered).await? {
            true => people.mail(&there, Notice::AlreadyRegistered).await,
            false => Ok(()),
        };
    }
    // Nobody has shown that they read this mail. Whoever does is the one who knows the password that counts then, so the
    // newest one counts.
    let changed = User { password_hash: user.password_hash, password_changed_at: Some(now), ..there };
    people.records.change_user(&changed).await?;
    confirm(people, &changed, email).await
}

/// Sends the link that confirms an address, unless one was sent a moment ago, which works as well.
async fn confirm(people: &People, user: &User, email: String) -> Result<(), Problem> {
    if people.may_write_for_stranger(user, Notice::ConfirmEmail).await? {
        people.mail_link(user, Purpose::ConfirmEmail, Some(email)).await?;
    }
    Ok(())
}

#[handler]
async fn resend(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let (started, people) = (Instant::now(), people_of(depot)?);
    let Address { email } = body::parse(body::read(request).await?)?;
    let email = names::normal_email(&email).map_err(|reason| invalid("email", reason))?;
    people.check_mail().await?;
    let answer = async {
        match people.records.user_by_email(&email).await? {
            Some(user) if user.email_confirmed_at.is_none() && user.password_hash.is_some() => {
                confirm(&people, &user, email).await
            }
            _ => Ok(()),
        }
    };
    answer_as_all(started, answer.await).await?;
    accepted(response);
    Ok(())
}
