//! Logging in, and what belongs to whoever is logged in.
//!
//! Answers to strangers tell nothing of an account: wrong names and wrong passwords are answered alike and after the same
//! time, and what is sent by mail is not told here.

mod email;
mod login;
mod myself;
mod password;
mod register;
mod second_factor;
mod sessions;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use fourmi_records::User;
use salvo::{
    Depot, Response,
    http::{Method, StatusCode},
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    caller::Caller,
    door::Origin,
    operation::{Group, Operation, state_of},
    people::{People, Tries, password::Verdict},
    problem::{Code, Problem},
};

pub(super) use second_factor::without_second_factor;
pub(super) use sessions::{SessionList, document as session_document};

/// When strangers are answered, counted from their request: longer than all that may be done for one of them.
const STRANGERS: Duration = Duration::from_millis(750);

/// The routes.
pub fn group(people: Arc<People>) -> Group {
    table().sharing(people)
}

pub(crate) fn table() -> Group {
    let mut operations = Vec::new();
    operations.extend(register::operations());
    operations.extend(login::operations());
    operations.extend(sessions::operations());
    operations.extend(password::operations());
    operations.extend(email::operations());
    operations.extend(second_factor::operations());
    operations.extend(myself::operations());
    Group::new("auth", "Logging in, and what belongs to whoever is logged in.", operations)
}

/// A route that reads a body.
fn posting(id: &'static str, path: &'static str, handler: impl salvo::Handler) -> Operation {
    Operation::new(id, Method::POST, path, handler)
        .fails(&[Code::BadRequest, Code::InvalidJson, Code::PayloadTooLarge, Code::InvalidRequest])
        .fails(&[Code::RecordsUnavailable])
}

/// A route for people about themselves.
fn personal(id: &'static str, method: Method, path: &'static str, handler: impl salvo::Handler) -> Operation {
    Operation::new(id, method, path, handler).for_people().fails(&[Code::RecordsUnavailable])
}

/// A route that checks a password.
fn checking(operation: Operation) -> Operation {
    operation.fails(&[Code::CredentialsInvalid, Code::LoginDelayed, Code::LoginBusy])
}

fn people_of(depot: &Depot) -> Result<Arc<People>, Problem> {
    state_of(depot)
}

fn origin_of(depot: &Depot) -> Result<Origin, Problem> {
    depot.get_typed::<Origin>().copied().map_err(|_| Problem::internal("nobody stands at the door"))
}

/// The account of the person who asks.
async fn myself(people: &People, depot: &Depot) -> Result<(Caller, User), Problem> {
    let caller = Caller::of(depot)?;
    let Some(login) = caller.login() else { return Err(Problem::internal("the route is not for people alone")) };
    // Deleted in this moment.
    let user = people.records.user(&login.user).await?.ok_or_else(Problem::token_expired)?;
    Ok((caller, user))
}

/// Answers a stranger when everybody is answered.
async fn answer_as_all<T>(started: Instant, answer: Result<T, Problem>) -> Result<T, Problem> {
    tokio::time::sleep_until((started + STRANGERS).into()).await;
    answer
}

/// Answers whoever is let in at once, and everybody else when strangers are.
async fn answer_refused_as_all<T>(started: Instant, answer: Result<T, Problem>) -> Result<T, Problem> {
    match answer {
        Err(refused) => answer_as_all(started, Err(refused)).await,
        let_in => let_in,
    }
}

/// Checks the password of somebody who is logged in: what they are about to do must not be done by whoever finds their
/// machine open.
async fn check_own_password(people: &People, depot: &Depot, user: &User, password: &str) -> Result<(), Problem> {
    let started = Instant::now();
    let answer = async {
        let tries = Tries::of(people, user.id.as_str(), Some(&user.id), &origin_of(depot)?).await?;
        tries.admit(people).await?;
        match people.passwords.verify(password, user.password_hash.as_deref()).await? {
            Verdict::Wrong => {
                tries.failed(people).await?;
                Err(wrong_credentials())
            }
            Verdict::Right | Verdict::RightButOld => Ok(tries.succeeded(people).await?),
        }
    };
    answer_refused_as_all(started, answer.await).await
}

fn wrong_credentials() -> Problem {
    Problem::new(Code::CredentialsInvalid, "Nothing more is said, so that nobody learns which.")
}

/// The hash of a new password that is good enough.
async fn hash_new(people: &People, path: &str, password: &str, known: &[&str]) -> Result<String, Problem> {
    if let Err(reason) = people.passwords.check_strength(password, known).await? {
        return Err(Problem::field(Code::WeakPassword, path, reason));
    }
    Ok(people.passwords.hash(password).await?)
}

/// Words that a person's password must not be made of.
fn words_of(user: &User) -> [&str; 4] {
    [
        user.email.as_deref().unwrap_or_default(),
        user.username.as_deref().unwrap_or_default(),
        user.profile.name.as_deref().unwrap_or_default(),
        user.tenant.as_ref().map_or("", |tenant| tenant.as_str()),
    ]
}

/// Nothing more is said to whoever asked for a mail.
fn accepted(response: &mut Response) {
    response.status_code(StatusCode::ACCEPTED);
}

fn done(response: &mut Response) {
    response.status_code(StatusCode::NO_CONTENT);
}

/// An e-mail address.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Address {
    /// The e-mail address.
    #[schemars(length(max = 254))]
    email: String,
}
