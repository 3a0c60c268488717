//! The second factor: codes of an app (TOTP, RFC 6238), and recovery codes for when it is lost.

use fourmi_kinds::Notice;
use fourmi_records::User;
use jiff::Timestamp;
use salvo::{Depot, Request, Response, handler, http::StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{check_own_password, checking, done, myself, people_of, posting};
use crate::{
    body,
    operation::{JSON, Operation, schema},
    people::{Act, Event, People, totp},
    problem::{Code, Problem},
    routes::users::{self, changed},
};

/// Who an app of codes says that its codes are for.
const ISSUER: &str = "Fourmi";

/// One's password.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OwnPassword {
    /// One's password.
    #[schemars(length(max = 1024))]
    pub(super) password: String,
}

/// A code.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OwnCode {
    /// The code that the app shows.
    #[schemars(length(max = 64))]
    code: String,
}

/// One's password and a code.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Removal {
    /// One's password.
    #[schemars(length(max = 1024))]
    password: String,
    /// The code that the app shows, or a recovery code.
    #[schemars(length(max = 64))]
    code: String,
}

/// What an app of codes needs; it is shown this once.
#[derive(Serialize, JsonSchema)]
struct Enrolment {
    /// The secret, in base 32, to be typed.
    secret: String,
    /// The same as an address, to be shown as a QR code.
    uri: String,
}

/// What lets one in when the app is lost; it is shown this once.
#[derive(Serialize, JsonSchema)]
struct Recovery {
    /// Codes, each of which works once in place of the app's.
    recovery_codes: Vec<String>,
}

const ENROL: &str =
    "Gives the secret for an app of codes. It counts once a first code was shown (`confirm_second_factor`).";

pub(super) fn operations() -> Vec<Operation> {
    vec![
        checking(posting("enrol_second_factor", "/api/v1/auth/second-factor", enrol))
            .for_people()
            .says("Begins to use a second factor", ENROL)
            .reads(JSON, schema::<OwnPassword>)
            .answers(StatusCode::OK, JSON, schema::<Enrolment>, "The secret.")
            .fails(&[Code::SecondFactorThere, Code::ChangedMeanwhile]),
        posting("confirm_second_factor", "/api/v1/auth/second-factor/confirm", confirm)
            .for_people()
            .says("Turns the second factor on", "From now on, logging in needs a code.")
            .reads(JSON, schema::<OwnCode>)
            .answers(StatusCode::OK, JSON, schema::<Recovery>, "Recovery codes.")
            .fails(&[Code::SecondFactorThere, Code::SecondFactorMissing, Code::SecondFactorInvalid])
            .fails(&[Code::ChangedMeanwhile]),
        checking(posting("remove_second_factor", "/api/v1/auth/second-factor/remove", remove))
            .for_people()
            .says("Turns the second factor off", "")
            .reads(JSON, schema::<Removal>)
            .answers_empty(StatusCode::NO_CONTENT, "Logging in needs no code any more.")
            .fails(&[Code::SecondFactorMissing, Code::SecondFactorInvalid, Code::ChangedMeanwhile]),
    ]
}

#[handler]
async fn enrol(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let people = people_of(depot)?;
    let OwnPassword { password } = body::parse(body::read(request).await?)?;
    let (_, user) = myself(&people, depot).await?;
    check_own_password(&people, depot, &user, &password).await?;
    if user.totp_confirmed_at.is_some() {
        return Err(Problem::new(Code::SecondFactorThere, "Turn it off first."));
    }
    let secret = totp::new_secret();
    let sealed = people
        .secrets
        .seal(&context(&user), &secret)
        .map_err(|_| Problem::internal("a secret that cannot be sealed"))?;
    let account = users::document(&user).username;
    let user = User { totp_secret: Some(sealed), ..user };
    changed(people.records.change_user(&user).await?)?;
    let uri = totp::uri(&secret, &account, ISSUER).ok_or_else(|| Problem::internal("a secret that has no address"))?;
    let enrolment = Enrolment { secret: totp::base32(&secret), uri };
    body::write(response, StatusCode::OK, &enrolment)
}

#[handler]
async fn confirm(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let people = people_of(depot)?;
    let OwnCode { code } = body::parse(body::read(request).await?)?;
    let (_, user) = myself(&people, depot).await?;
    if user.totp_confirmed_at.is_some() {
        return Err(Problem::new(Code::SecondFactorThere, "Turn it off first."));
    }
    if user.totp_secret.is_none() {
        return Err(Problem::new(Code::SecondFactorMissing, "Ask for a secret first."));
    }
    if !check_app_code(&people, &user, &code).await? {
        return Err(Problem::new(Code::SecondFactorInvalid, "Is the clock of the device right?"));
    }
    let codes = totp::recovery_codes();
    let recovery_hashes = codes.iter().map(|code| totp::recovery_hash(&user.id, code)).collect();
    let user = User { totp_confirmed_at: Some(Timestamp::now()), recovery_hashes, ..user };
    changed(people.records.change_user(&user).await?)?;
    Event::of(request, depot, Act::SecondFactorAdded).to(&user.id).note(&people.records).await?;
    people.try_to_mail(&user, Notice::SecondFactorChanged).await;
    body::write(response, StatusCode::OK, &Recovery { recovery_codes: codes })
}

#[handler]
async fn remove(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let people = people_of(depot)?;
    let Removal { password, code } = body::parse(body::read(request).await?)?;
    let (_, user) = myself(&people, depot).await?;
    check_own_password(&people, depot, &user, &password).await?;
    if user.totp_confirmed_at.is_none() {
        return Err(Problem::new(Code::SecondFactorMissing, "There is nothing to turn off."));
    }
    if !check_code(&people, &user, &code).await? {
        return Err(Problem::new(Code::SecondFactorInvalid, "A code works once, for about a minute."));
    }
    without_second_factor(&people, &user).await?;
    Event::of(request, depot, Act::SecondFactorRemoved).to(&user.id).note(&people.records).await?;
    done(response);
    Ok(())
}

/// Turns the second factor of a person off.
pub(in crate::routes) async fn without_second_factor(people: &People, user: &User) -> Result<(), Problem> {
    // A recovery code that was just used has changed the account.
    let user = people.records.user(&user.id).await?.ok_or_else(users::unknown)?;
    let without = User { totp_secret: None, totp_confirmed_at: None, recovery_hashes: Vec::new(), ..user };
    changed(people.records.change_user(&without).await?)?;
    people.try_to_mail(&without, Notice::SecondFactorChanged).await;
    Ok(())
}

/// Whether this is a code of the app or a recovery code; it is used up then.
pub(super) async fn check_code(people: &People, user: &User, code: &str) -> Result<bool, Problem> {
    if check_app_code(people, user, code).await? {
        return Ok(true);
    }
    Ok(people.records.use_recovery_hash(&user.id, &totp::recovery_hash(&user.id, code)).await?)
}

async fn check_app_code(people: &People, user: &User, code: &str) -> Result<bool, Problem> {
    let sealed = user.totp_secret.as_deref().unwrap_or_default();
    let Some(secret) = people.secrets.open(&context(user), sealed) else {
        tracing::error!(user.id = %user.id, "a second factor cannot be read: FOURMI_SECRET_KEY was changed without FOURMI_SECRET_KEY_BEFORE");
        return Ok(false);
    };
    match totp::matching_step(&secret, code, Timestamp::now()) {
        Some(step) => Ok(people.records.use_totp_step(&user.id, step).await?),
        None => Ok(false),
    }
}

fn context(user: &User) -> String {
    format!("totp {}", user.id)
}
