//! Sessions: where people are logged in. Each is a family of refresh tokens of which one, the newest, works.
//!
//! Apps keep the tokens themselves. Browsers get them as cookies that no script can read; then every change needs the
//! session's CSRF token in a header, which a page of another site does not know.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use fourmi_model::UserId;
use fourmi_records::{Refreshed, Session, User};
use jiff::{SignedDuration, Timestamp};
use salvo::{
    Request, Response,
    http::{
        HeaderMap, HeaderName, HeaderValue,
        header::{COOKIE, SET_COOKIE, USER_AGENT},
    },
};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{People, secret::PeopleSecrets as _, tokens::Subject};
use crate::{
    door::Origin,
    problem::{Code, Problem},
};

/// The longest that a session lasts, however often it is renewed.
const LONGEST: SignedDuration = SignedDuration::from_hours(90 * 24);

/// Sessions that a person may have at a time; the one that was silent longest makes room.
const MOST: usize = 50;

/// The most characters of what a program calls itself.
const USER_AGENT_CHARS: usize = 200;

/// How refresh tokens begin.
const PREFIX: &str = "fourmi_refresh_";

const CSRF: HeaderName = HeaderName::from_static("x-csrf-token");

/// The cookies: for the access token, the refresh token and the CSRF token.
const COOKIES: [&str; 3] = ["fourmi-access", "fourmi-refresh", "fourmi-csrf"];

/// New tokens of a session.
pub(crate) struct Fresh {
    pub(crate) session: Session,
    pub(crate) access: String,
    pub(crate) access_until: Timestamp,
    pub(crate) refresh: String,
}

/// What a request shows of a session.
pub(crate) struct Credentials<'a> {
    headers: &'a HeaderMap,
    /// What comes before the names of cookies: browsers keep this one to TLS, this host, and whoever it came from.
    prefix: &'static str,
}

impl<'a> Credentials<'a> {
    pub(crate) fn of(headers: &'a HeaderMap, origin: Option<&Origin>) -> Self {
        Self { headers, prefix: prefix(origin) }
    }

    /// The access token among the cookies.
    pub(crate) fn access(&self) -> Option<&'a str> {
        self.cookie(COOKIES[0])
    }

    /// The refresh token among the cookies.
    pub(crate) fn refresh(&self) -> Option<&'a str> {
        self.cookie(COOKIES[1])
    }

    /// Refuses a change that the session's own page has not asked for.
    ///
    /// # Errors
    /// If the header with the session's CSRF token is missing or wrong.
    pub(crate) fn check_csrf(&self, people: &People, session: &str) -> Result<(), Problem> {
        let shown = self.headers.get(CSRF).and_then(|value| value.to_str().ok());
        if shown.is_some_and(|shown| people.secrets.is_csrf(session, shown)) {
            return Ok(());
        }
        let detail =
            "Whoever is logged in by cookies sends the value of the cookie fourmi-csrf in the header X-CSRF-Token.";
        Err(Problem::new(Code::CsrfFailed, detail))
    }

    fn cookie(&self, name: &str) -> Option<&'a str> {
        let texts = self.headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs = texts.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let found = pairs.find(|(found, _)| found.strip_prefix(self.prefix) == Some(name))?;
        Some(found.1).filter(|value| !value.is_empty())
    }
}

fn prefix(origin: Option<&Origin>) -> &'static str {
    if origin.is_some_and(|origin| origin.is_secure) { "__Host-" } else { "" }
}

impl People {
    /// What the pages of a session show to prove that a form is theirs.
    pub(crate) fn csrf(&self, session: &str) -> String {
        self.secrets.csrf(session)
    }
}

/// Gives a browser its cookies.
pub(crate) fn give_cookies(response: &mut Response, origin: Option<&Origin>, people: &People, fresh: &Fresh) {
    let csrf = people.csrf(&fresh.session.id);
    for (name, value, until) in [
        (COOKIES[0], &fresh.access, fresh.access_until),
        (COOKIES[1], &fresh.refresh, fresh.session.expires_at),
        (COOKIES[2], &csrf, fresh.session.expires_at),
    ] {
        let seconds = until.duration_since(Timestamp::now()).as_secs().max(0);
        set_cookie(response, origin, name, value, seconds);
    }
}

/// Takes a browser's cookies back.
pub(crate) fn take_cookies(response: &mut Response, origin: Option<&Origin>) {
    for name in COOKIES {
        set_cookie(response, origin, name, "", 0);
    }
}

fn set_cookie(response: &mut Response, origin: Option<&Origin>, name: &str, value: &str, seconds: i64) {
    let secure = if origin.is_some_and(|origin| origin.is_secure) { "; Secure" } else { "" };
    // The page must be able to read this one.
    let http_only = if name == COOKIES[2] { "" } else { "; HttpOnly" };
    let prefix = prefix(origin);
    let cookie = format!("{prefix}{name}={value}; Path=/; Max-Age={seconds}; SameSite=Strict{secure}{http_only}");
    // Tokens are plain words.
    if let Ok(cookie) = HeaderValue::try_from(cookie) {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
}

impl People {
    /// Begins a session of somebody who has shown who they are. What was shown of a session before does not matter, so that
    /// nobody is put into one that somebody else knows.
    ///
    /// # Errors
    /// If the records do not answer.
    pub(crate) async fn start_session(
        &self,
        user: &User,
        device: Option<String>,
        request: &Request,
        origin: &Origin,
    ) -> Result<Fresh, Problem> {
        let now = Timestamp::now();
        let id = format!("session-{}", Uuid::new_v4().simple());
        let refresh = new_refresh(&id);
        let session = Session {
            id,
            user: user.id.clone(),
            device,
            user_agent: user_agent(request.headers()),
            address: origin.neighbourhood().to_string(),
            created_at: now,
            refreshed_at: now,
            expires_at: self.idle_end(now),
            ends_at: now + LONGEST,
            revoked_at: None,
            revoked_for: None,
        };
        if !self.records.start_session(&session, &hash(&refresh), MOST).await? {
            // Deactivated or deleted in this moment.
            return Err(Problem::new(Code::AccountDeactivated, "Ask an admin of the app."));
        }
        self.records.note_login(&user.id, now).await?;
        self.fresh(user, session, refresh)
    }

    /// Renews a session by its newest refresh token, which works once. If it was used before, somebody has a copy: the
    /// session is over, whoever asks.
    ///
    /// # Errors
    /// If the token is over, was used before or is none, or the records do not answer.
    pub(crate) async fn renew_session(
        &self,
        shown: &str,
        request: &Request,
        origin: &Origin,
    ) -> Result<Renewed, Problem> {
        let session = session_of(shown).ok_or_else(over)?;
        let now = Timestamp::now();
        let next = new_refresh(session);
        let (shown, hash_of_next) = (hash(shown), hash(&next));
        let agent = user_agent(request.headers());
        let address = origin.neighbourhood().to_string();
        let renewing =
            self.records.refresh_session(&shown, &hash_of_next, now, self.idle_end(now), &address, agent.as_deref());
        let session = match renewing.await? {
            Refreshed::Renewed(session) => session,
            Refreshed::Reused(session) => {
                self.reload().await?;
                return Ok(Renewed::Reused { user: session.user, session: session.id });
            }
            Refreshed::Over | Refreshed::Unknown => return Err(over()),
        };
        let user = self.records.user(&session.user).await?.ok_or_else(over)?;
        self.check_may_log_in(&user)?;
        let fresh = self.fresh(&user, session, next)?;
        Ok(Renewed::Fresh(Box::new((user, fresh))))
    }

    /// Whether somebody who has shown who they are may be here.
    ///
    /// # Errors
    /// If not: the account, or its tenant, was switched off.
    pub(crate) fn check_may_log_in(&self, user: &User) -> Result<(), Problem> {
        if user.deactivated_at.is_some() {
            return Err(Problem::new(Code::AccountDeactivated, "Ask an admin of the app."));
        }
        if user.tenant.as_ref().is_some_and(|tenant| self.is_suspended(tenant)) {
            return Err(tenant_suspended());
        }
        Ok(())
    }

    fn idle_end(&self, now: Timestamp) -> Timestamp {
        now + SignedDuration::try_from(self.settings.refresh_token).unwrap_or(LONGEST).min(LONGEST)
    }

    fn fresh(&self, user: &User, session: Session, refresh: String) -> Result<Fresh, Problem> {
        let subject = Subject {
            user: user.id.clone(),
            session: session.id.clone(),
            role: user.role,
            tenant: user.tenant.clone(),
            access_version: user.access_version,
        };
        let (access, access_until) = self.tokens.issue(&subject, Timestamp::now()).map_err(Problem::internal)?;
        Ok(Fresh { session, access, access_until, refresh })
    }
}

/// What became of a refresh token.
pub(crate) enum Renewed {
    /// The session goes on.
    Fresh(Box<(User, Fresh)>),
    /// It was used before.
    Reused { user: UserId, session: String },
}

/// The session that a refresh token says it is of.
pub(crate) fn session_of(refresh: &str) -> Option<&str> {
    refresh.strip_prefix(PREFIX)?.split_once('.').map(|(session, _)| session)
}

/// The answer to a refresh token that does not work, or no longer.
pub(crate) fn over() -> Problem {
    Problem::new(Code::SessionOver, "Log in again.")
}

/// The answer to whoever belongs to a tenant that was switched off.
pub(crate) fn tenant_suspended() -> Problem {
    Problem::new(Code::TenantSuspended, "Ask who runs the platform.")
}

fn new_refresh(session: &str) -> String {
    format!("{PREFIX}{session}.{}", BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()))
}

fn hash(refresh: &str) -> String {
    hex::encode(Sha256::digest(refresh))
}

fn user_agent(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(USER_AGENT)?.to_str().ok()?;
    Some(text.chars().take(USER_AGENT_CHARS).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(cookies: &[&'static str]) -> HeaderMap {
        cookies.iter().fold(HeaderMap::new(), |mut headers, cookie| {
            headers.append(COOKIE, HeaderValue::from_static(cookie));
            headers
        })
    }

    #[test]
    fn a_secure_request_shows_cookies_of_its_host_only() {
        let origin = |is_secure| Origin { address: [127, 0, 0, 1].into(), is_secure };
        let both = headers(&["a=b; fourmi-access=plain", "__Host-fourmi-access=mine; c"]);
        assert_eq!(Credentials::of(&both, Some(&origin(false))).access(), Some("plain"));
        assert_eq!(Credentials::of(&both, Some(&origin(true))).access(), Some("mine"));
        let none = headers(&["fourmi-access=; xfourmi-access=a"]);
        assert_eq!(Credentials::of(&none, Some(&origin(false))).access(), None);
        assert_eq!(Credentials::of(&headers(&["fourmi-access=a"]), Some(&origin(true))).access(), None);
    }

    #[test]
    fn a_refresh_token_names_its_session() {
        let token = new_refresh("session-1");
        assert_eq!(session_of(&token), Some("session-1"));
        for other in ["", "session-1.x", "fourmi_refresh_session-1"] {
            assert_eq!(session_of(other), None, "{other}");
        }
    }
}
