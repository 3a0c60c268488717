//! Access to Google for a service account: OAuth 2 by a JWT that its key signs (RFC 7523).
//!
//! A token is good for an hour. It is asked for once, however many need it, and anew five minutes before it ends.

use std::time::{Duration, Instant};

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use jiff::Timestamp;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use ring::{
    rand::SystemRandom,
    signature::{RSA_PKCS1_SHA256, RsaKeyPair},
};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Mutex;

use crate::{answer::read_body, office::Desk};

/// How long the assertion is valid, in seconds; an hour is the most.
const ASSERTION_S: i64 = 3_600;

/// How long before its end a token is replaced.
const AHEAD: Duration = Duration::from_secs(5 * 60);

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(15);

/// The most of an answer that is read, in bytes.
pub(crate) const MOST_READ: usize = 64 * 1024;

/// The longest that a token is taken to be good for, whatever the answer says.
const LONGEST_LIFE: Duration = Duration::from_secs(3_600);

/// How long a failure is the answer for all who ask.
const FAILED: Duration = Duration::from_secs(1);

/// Who asks, as Google's file says it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct ServiceAccount {
    pub(crate) client_email: String,
    /// PKCS#8 in PEM.
    pub(crate) private_key: String,
    pub(crate) private_key_id: String,
    pub(crate) project_id: String,
    pub(crate) token_uri: String,
}

/// Why there is no access.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoAccess {
    /// The account is not right: nothing changes until the operator does something.
    Refused(String),
    /// Google does not answer as it should now.
    Unavailable(String),
}

/// What opens Google's doors for a service account.
pub(crate) struct Access {
    account: ServiceAccount,
    scope: &'static str,
    key: RsaKeyPair,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    token: Option<Token>,
    failed: Option<(Instant, NoAccess)>,
}

struct Token {
    header: HeaderValue,
    until: Instant,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    expires_in: u64,
}

#[derive(Default, Deserialize)]
struct Denied {
    #[serde(default)]
    error: String,
}

impl Access {
    /// # Errors
    /// What is wrong with the key, for a person.
    pub(crate) fn new(account: ServiceAccount, scope: &'static str) -> Result<Self, String> {
        let lines = account.private_key.lines().map(str::trim).filter(|line| !line.starts_with("-----"));
        let key = BASE64_STANDARD.decode(lines.collect::<String>()).ok();
        let key = key.and_then(|key| RsaKeyPair::from_pkcs8(&key).ok());
        let key = key.ok_or("its private_key is no RSA key in PEM (PKCS#8)")?;
        Ok(Self { account, scope, key, known: Mutex::default() })
    }

    /// The header that opens doors. `stale` is one that does not, and must be replaced if it is still the newest.
    pub(crate) async fn header(&self, desk: &Desk, stale: Option<&HeaderValue>) -> Result<HeaderValue, NoAccess> {
        // Whoever comes while somebody asks waits here, and finds the answer.
        let mut known = self.known.lock().await;
        let now = Instant::now();
        if let Some(token) = &known.token
            && token.until > now
            && stale.is_none_or(|stale| *stale != token.header)
        {
            return Ok(token.header.clone());
        }
        if let Some((at, failed)) = &known.failed
            && at.elapsed() < FAILED
        {
            return Err(failed.clone());
        }
        match self.ask(desk).await {
            Ok(token) => {
                let header = token.header.clone();
                *known = Known { token: Some(token), failed: None };
                Ok(header)
            }
            Err(error) => {
                known.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    async fn ask(&self, desk: &Desk) -> Result<Token, NoAccess> {
        let assertion = self.assertion(Timestamp::now().as_second())?;
        let body = format!("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion={assertion}");
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, form)]);
        let unavailable = |reason: String| NoAccess::Unavailable(reason);
        let asked = Instant::now();
        let answer = desk.multiplexed.post(&self.account.token_uri, headers, body, PATIENCE).await;
        let answer = answer.map_err(|error| unavailable(error.to_string()))?;
        let status = answer.status();
        let body = read_body(answer, MOST_READ).await;
        let body = body.map_err(|error| unavailable(error.without_url().to_string()))?;
        if status.is_client_error() && status.as_u16() != 429 {
            // What stands there may be anything; this word is of RFC 6749.
            let word = serde_json::from_slice::<Denied>(&body).unwrap_or_default().error;
            let word: String = word.chars().filter(char::is_ascii_graphic).take(40).collect();
            return Err(NoAccess::Refused(format!("Google gives it no token ({} {word})", status.as_u16())));
        }
        if !status.is_success() {
            return Err(unavailable(format!("the answer to a request for a token was {status}")));
        }
        let granted: Option<Granted> = serde_json::from_slice(&body).ok();
        let header = granted.and_then(|granted| {
            let mut header = HeaderValue::from_str(&format!("Bearer {}", granted.access_token)).ok()?;
            header.set_sensitive(true);
            let life = Duration::from_secs(granted.expires_in).min(LONGEST_LIFE);
            Some(Token { header, until: asked + life.saturating_sub(AHEAD).max(life / 2) })
        });
        header.ok_or_else(|| unavailable("the answer to a request for a token holds none".to_owned()))
    }

    /// The JWT (RS256) that is exchanged for a token.
    fn assertion(&self, now: i64) -> Result<String, NoAccess> {
        let header = json!({"alg": "RS256", "typ": "JWT", "kid": self.account.private_key_id});
        let claims = json!({
            "iss": self.account.client_email,
            "scope": self.scope,
            "aud": self.account.token_uri,
            "iat": now,
            "exp": now + ASSERTION_S,
        });
        let part = |value: serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let mut signature = vec![0; self.key.public().modulus_len()];
        let random = SystemRandom::new();
        let done = self.key.sign(&RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut signature);
        done.map_err(|_| NoAccess::Refused("its private_key cannot sign".to_owned()))?;
        Ok(format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
    }
}
