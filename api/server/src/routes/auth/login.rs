//! Logging in.

use std::time::Instant;

use fourmi_model::{Outcome, UserInfo};
use fourmi_records::{User, UserChange};
use jiff::Timestamp;
use salvo::{Depot, Request, Response, handler, http::StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    answer_refused_as_all, checking, origin_of, people_of, posting, second_factor::check_code, wrong_credentials,
};
use crate::{
    body,
    door::Origin,
    operation::{JSON, Operation, schema},
    people::{
        Act, Credentials, Event, Fresh, People, Renewed, Tries, give_cookies, over, password::Verdict, session_of,
        take_cookies,
    },
    problem::{Code, Problem},
    routes::{
        submission::{check_label, invalid},
        users,
    },
};

/// The longest name of a device, in characters.
const MAX_DEVICE_CHARS: usize = 100;

/// Who somebody says that they are, and what proves it.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LoginRequest {
    /// The username or the e-mail address.
    #[serde(alias = "email")]
    #[schemars(length(min = 1, max = 254))]
    username: String,
    /// The password.
    #[schemars(length(max = 1024))]
    password: String,
    /// The code of the second factor, or a recovery code: needed if there is a second factor.
    #[serde(default)]
    #[schemars(length(max = 64))]
    code: Option<String>,
    /// What the device is called, for the list of sessions.
    #[serde(default)]
    #[schemars(length(min = 1, max = 100))]
    device: Option<String>,
    /// Whether the tokens come as cookies, for pages of browsers.
    #[serde(default)]
    cookies: bool,
}

/// What renews a session.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Refresh {
    /// The refresh token; without it, the one among the cookies.
    #[schemars(length(max = 256))]
    refresh_token: Option<String>,
}

/// Whoever is logged in, and their tokens.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Greeting {
    /// The access token, to be sent as `Authorization: Bearer <token>`; with cookies it is one of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    access_token: Option<String>,
    /// `bearer`.
    token_type: &'static str,
    /// For how many seconds the access token holds.
    expires_in: u64,
    /// What renews the session, once; with cookies it is one of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    /// When the session ends, unless it is renewed before.
    #[schemars(with = "String", extend("format" = "date-time"))]
    session_expires_at: Timestamp,
    /// With cookies: what is sent in `X-CSRF-Token` with every change; the cookie `fourmi-csrf` has it too.
    #[serde(skip_serializing_if = "Option::is_none")]
    csrf_token: Option<String>,
    /// The person.
    user: UserInfo,
}

const LOGIN: &str = "Who fails must wait longer and longer, up to fifteen minutes; whoever was logged in from the same address in the last \
    90 days is counted apart from all others. A wrong name is answered as a wrong password is.";

const REFRESH: &str = "Gives a new access token and a new refresh token: the old one has done its work. One that is used a second time is \
    in the hands of two, so its session ends.";

pub(super) fn operations() -> Vec<Operation> {
    vec![
        checking(posting("login", "/api/v1/auth/login", log_in))
            .open()
            .says("Logs in", LOGIN)
            .reads(JSON, schema::<LoginRequest>)
            .answers(StatusCode::OK, JSON, schema::<Greeting>, "Who it is, and their tokens.")
            .with_headers(&["Set-Cookie"])
            .fails(&[Code::SecondFactorRequired, Code::SecondFactorInvalid])
            .fails(&[Code::EmailUnconfirmed, Code::AccountDeactivated, Code::TenantSuspended]),
        posting("refresh", "/api/v1/auth/refresh", refresh)
            .open()
            .says("Renews the tokens of a session", REFRESH)
            .may_read(JSON, schema::<Refresh>)
            .answers(StatusCode::OK, JSON, schema::<Greeting>, "Who it is, and new tokens.")
            .with_headers(&["Set-Cookie"])
            .fails(&[Code::SessionOver, Code::CsrfFailed, Code::AccountDeactivated, Code::TenantSuspended]),
    ]
}

#[handler]
async fn log_in(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let (started, people, origin) = (Instant::now(), people_of(depot)?, origin_of(depot)?);
    let wanted: LoginRequest = body::parse(body::read(request).await?)?;
    if let Some(device) = &wanted.device {
        check_label("device", device, MAX_DEVICE_CHARS)?;
    }
    if wanted.username.is_empty() {
        return Err(invalid("username", "must not be empty"));
    }
    let event = Event::of(request, depot, Act::Login);
    let let_in = admit(&people, &wanted, &origin, event).await;
    let user = answer_refused_as_all(started, let_in).await?;
    let fresh = people.start_session(&user, wanted.device, request, &origin).await?;
    let done = Event::of(request, depot, Act::Login).by(&user.id).to(&fresh.session.id);
    done.in_tenant(user.tenant.as_ref()).note(&people.records).await?;
    greet(response, &people, &origin, &user, fresh, wanted.cookies)
}

/// The person, if they prove who they are and may come in.
async fn admit(people: &People, wanted: &LoginRequest, origin: &Origin, event: Event) -> Result<User, Problem> {
    let login = wanted.username.trim();
    let user = find(people, login).await?;
    let tries = Tries::of(people, login, user.as_ref().map(|user| &user.id), origin).await?;
    let event = match &user {
        // Whether it is the person is about to be seen.
        Some(user) => event.to(&user.id).in_tenant(user.tenant.as_ref()),
        None => event,
    };
    let proven = prove(people, wanted, user.as_ref(), &tries).await;
    if let Err(problem) = &proven {
        let outcome = match problem.code() {
            Code::CredentialsInvalid | Code::SecondFactorInvalid => Outcome::Failure,
            Code::LoginDelayed => Outcome::Denied,
            // Nothing was decided.
            _ => return proven,
        };
        event.ended(outcome).with("reason", problem.code().as_str()).note(&people.records).await?;
        return proven;
    }
    let user = proven?;
    let refused = match &user {
        user if user.email.is_some() && user.email_confirmed_at.is_none() => {
            Err(Problem::new(Code::EmailUnconfirmed, "Follow the link in the mail that was sent to it."))
        }
        user => people.check_may_log_in(user),
    };
    if let Err(problem) = refused {
        event.ended(Outcome::Denied).with("reason", problem.code().as_str()).note(&people.records).await?;
        return Err(problem);
    }
    Ok(user)
}

/// The person who is known by a username or an e-mail address.
async fn find(people: &People, login: &str) -> Result<Option<User>, Problem> {
    let found = if login.contains('@') {
        let Ok(email) = crate::people::names::normal_email(login) else { return Ok(None) };
        people.records.user_by_email(&email).await?
    } else {
        people.records.user_by_username(login).await?
    };
    Ok(found)
}

/// Checks password and second factor. Whether the next try must wait is asked once more when the password is checked, so that
/// many at once learn nothing that one after the other would not.
async fn prove(people: &People, wanted: &LoginRequest, user: Option<&User>, tries: &Tries) -> Result<User, Problem> {
    tries.admit(people).await?;
    let hash = user.and_then(|user| user.password_hash.as_deref());
    let verdict = people.passwords.verify(&wanted.password, hash).await?;
    tries.admit(people).await?;
    let Some(user) = user.filter(|_| verdict != Verdict::Wrong) else {
        tries.failed(people).await?;
        return Err(wrong_credentials());
    };
    if user.totp_confirmed_at.is_some() {
        let Some(code) = wanted.code.as_deref() else {
            return Err(Problem::new(
                Code::SecondFactorRequired,
                "Send the code of your app, or a recovery code, as `code`.",
            ));
        };
        if !check_code(people, user, code).await? {
            tries.failed(people).await?;
            return Err(Problem::new(Code::SecondFactorInvalid, "A code works once, for about a minute."));
        }
    }
    tries.succeeded(people).await?;
    if verdict == Verdict::RightButOld {
        return renew_hash(people, user, &wanted.password).await;
    }
    Ok(user.clone())
}

/// Replaces a hash of an older sort, now that the password is known.
async fn renew_hash(people: &People, user: &User, password: &str) -> Result<User, Problem> {
    let hash = people.passwords.hash(password).await?;
    let renewed = User { password_hash: Some(hash), ..user.clone() };
    match people.records.change_user(&renewed).await? {
        UserChange::Changed => Ok(User { version: user.version + 1, ..renewed }),
        // The next login will do it.
        _ => Ok(user.clone()),
    }
}

#[handler]
async fn refresh(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let (people, origin) = (people_of(depot)?, origin_of(depot)?);
    let body = body::read(request).await?;
    let Refresh { refresh_token } = if body.is_empty() { Refresh::default() } else { body::parse(body)? };
    let cookies = refresh_token.is_none();
    let shown = match refresh_token {
        Some(shown) => shown,
        None => {
            let credentials = Credentials::of(request.headers(), Some(&origin));
            let shown = credentials.refresh().ok_or_else(over)?;
            credentials.check_csrf(&people, session_of(shown).ok_or_else(over)?)?;
            shown.to_owned()
        }
    };
    let renewed = people.renew_session(&shown, request, &origin).await;
    let (user, fresh) = match renewed {
        Ok(Renewed::Fresh(renewed)) => *renewed,
        Ok(Renewed::Reused { user, session }) => {
            let event = Event::of(request, depot, Act::RefreshReused).by(user).to(session);
            event.ended(Outcome::Denied).note(&people.records).await?;
            take_cookies_if(cookies, response, &origin);
            return Err(over());
        }
        Err(problem) => {
            take_cookies_if(cookies && problem.code() == Code::SessionOver, response, &origin);
            return Err(problem);
        }
    };
    greet(response, &people, &origin, &user, fresh, cookies)
}

fn take_cookies_if(cookies: bool, response: &mut Response, origin: &Origin) {
    if cookies {
        take_cookies(response, Some(origin));
    }
}

fn greet(
    response: &mut Response,
    people: &People,
    origin: &Origin,
    user: &User,
    fresh: Fresh,
    cookies: bool,
) -> Result<(), Problem> {
    if cookies {
        give_cookies(response, Some(origin), people, &fresh);
    }
    let greeting = Greeting {
        token_type: "bearer",
        expires_in: people.settings.access_token.as_secs(),
        session_expires_at: fresh.session.expires_at,
        csrf_token: cookies.then(|| people.csrf(&fresh.session.id)),
        access_token: (!cookies).then_some(fresh.access),
        refresh_token: (!cookies).then_some(fresh.refresh),
        user: users::document(user),
    };
    body::write(response, StatusCode::OK, &greeting)
}
