//! Changing a password, and choosing another when it was forgotten.

use std::time::Instant;

use fourmi_kinds::Notice;
use fourmi_records::User;
use jiff::Timestamp;
use salvo::{Depot, Request, Response, handler, http::StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Address, accepted, answer_as_all, check_own_password, checking, done, hash_new, myself, people_of, posting,
    words_of,
};
use crate::{
    body,
    operation::{JSON, Operation, schema},
    people::{Act, Event, People, Purpose, names},
    problem::{Code, Problem},
    routes::{submission::invalid, users::changed},
};

/// A new password, and the one until now.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewPassword {
    /// The password until now.
    #[schemars(length(max = 1024))]
    current_password: String,
    /// The new one: 8 to 128 characters, hard to guess.
    #[schemars(length(min = 8, max = 128))]
    new_password: String,
}

/// A new password, and the link that allows it.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Reset {
    /// The token of the link in the mail.
    #[schemars(length(max = 256))]
    token: String,
    /// The new password: 8 to 128 characters, hard to guess.
    #[schemars(length(min = 8, max = 128))]
    password: String,
}

const RESET: &str =
    "With the token of a mail that was asked for, or of an invitation; it works once. All sessions of the person end.";

pub(super) fn operations() -> Vec<Operation> {
    vec![
        checking(posting("change_password", "/api/v1/auth/change-password", change))
            .for_people()
            .says("Changes one's password", "All other sessions end.")
            .reads(JSON, schema::<NewPassword>)
            .answers_empty(StatusCode::NO_CONTENT, "The new password counts.")
            .fails(&[Code::WeakPassword, Code::ChangedMeanwhile]),
        posting("forgot_password", "/api/v1/auth/forgot-password", forgot)
            .open()
            .says(
                "Asks for a link to choose a new password",
                "The answer is the same for every address. Whoever was written to a moment ago is not again.",
            )
            .reads(JSON, schema::<Address>)
            .answers_empty(StatusCode::ACCEPTED, "If there is such an account, a mail is on its way.")
            .fails(&[Code::RedisUnavailable]),
        posting("reset_password", "/api/v1/auth/reset-password", reset)
            .open()
            .says("Chooses a password by a link", RESET)
            .reads(JSON, schema::<Reset>)
            .answers_empty(StatusCode::NO_CONTENT, "The new password counts.")
            .fails(&[Code::TokenInvalid, Code::WeakPassword, Code::LoginBusy, Code::ChangedMeanwhile]),
    ]
}

#[handler]
async fn change(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let people = people_of(depot)?;
    let NewPassword { current_password, new_password } = body::parse(body::read(request).await?)?;
    let (caller, user) = myself(&people, depot).await?;
    check_own_password(&people, depot, &user, &current_password).await?;
    let hash = hash_new(&people, "new_password", &new_password, &words_of(&user)).await?;
    let user = set(&people, user, hash).await?;
    let current = caller.login().map(|login| login.session.as_str());
    people.records.revoke_sessions(&user.id, current, "password_changed", Timestamp::now()).await?;
    people.reload().await?;
    Event::of(request, depot, Act::PasswordChanged).to(&user.id).note(&people.records).await?;
    people.try_to_mail(&user, Notice::PasswordChanged).await;
    done(response);
    Ok(())
}

#[handler]
async fn forgot(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let (started, people) = (Instant::now(), people_of(depot)?);
    let Address { email } = body::parse(body::read(request).await?)?;
    let email = names::normal_email(&email).map_err(|reason| invalid("email", reason))?;
    people.check_mail().await?;
    let event = Event::of(request, depot, Act::LinkRequested);
    let answer = async {
        let Some(user) = people.records.user_by_email(&email).await? else { return Ok(()) };
        // The mail goes to the address that is kept, whatever was typed.
        event.to(&user.id).in_tenant(user.tenant.as_ref()).note(&people.records).await?;
        if people.may_write_for_stranger(&user, Notice::ResetPassword).await? {
            people.mail_link(&user, Purpose::ResetPassword, user.email.clone()).await?;
        }
        Ok(())
    };
    answer_as_all(started, answer.await).await?;
    accepted(response);
    Ok(())
}

#[handler]
async fn reset(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let people = people_of(depot)?;
    let Reset { token, password } = body::parse(body::read(request).await?)?;
    let purposes = [Purpose::ResetPassword, Purpose::Invitation];
    let one_time = people.read_token(&token, &purposes).await?;
    let mut user = people.records.user(&one_time.user).await?.ok_or_else(gone)?;
    let hash = hash_new(&people, "password", &password, &words_of(&user)).await?;
    people.use_token(&one_time).await?;
    // Whoever has the link reads the mail of the address that it was sent to.
    if one_time.email.is_some() && one_time.email == user.email {
        user.email_confirmed_at = user.email_confirmed_at.or_else(|| Some(Timestamp::now()));
    }
    let user = set(&people, user, hash).await?;
    people.records.revoke_sessions(&user.id, None, "password_reset", Timestamp::now()).await?;
    people.reload().await?;
    let event = Event::of(request, depot, Act::PasswordReset).by(&user.id).to(&user.id);
    event.in_tenant(user.tenant.as_ref()).with("by", one_time.purpose.as_str()).note(&people.records).await?;
    if one_time.purpose == Purpose::ResetPassword.as_str() {
        people.try_to_mail(&user, Notice::PasswordChanged).await;
    }
    done(response);
    Ok(())
}

/// Gives a person this password.
async fn set(people: &People, user: User, hash: String) -> Result<User, Problem> {
    let user = User { password_hash: Some(hash), password_changed_at: Some(Timestamp::now()), ..user };
    changed(people.records.change_user(&user).await?)?;
    people.forget_first_password(&user);
    Ok(user)
}

fn gone() -> Problem {
    Problem::new(Code::TokenInvalid, "The account was deleted.")
}
