//! A provider that speaks plain JSON, as `docs/kinds/sms.send.md` says: a gateway of the operator's own, or a small adapter to
//! whichever company sends.

use fourmi_kinds::SmsPurpose;
use fourmi_model::{ErrorClass, Failure, SmsState};
use jiff::Timestamp;
use reqwest::{
    Method, StatusCode, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue},
};
use serde::{Deserialize, Serialize};

use super::{
    account::HttpAccount,
    line::{Answer, Line, excerpt},
    provider::{Delivery, Found, Message, Provider, Trouble, refused, unreadable},
};

/// Whoever speaks plain JSON.
pub(super) struct HttpProvider<'a> {
    pub(super) line: Line<'a>,
    pub(super) account: &'a HttpAccount,
}

#[derive(Serialize)]
struct NewMessage<'a> {
    to: &'a str,
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sender: Option<&'a str>,
    tag: &'a str,
    purpose: SmsPurpose,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
}

/// A message that it has.
#[derive(Deserialize)]
struct Sent {
    id: String,
    #[serde(default)]
    tag: Option<String>,
    #[serde(default)]
    state: Option<SmsState>,
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    credits: Option<f64>,
    #[serde(default)]
    credits_left: Option<f64>,
    #[serde(default)]
    delivered_at: Option<Timestamp>,
    #[serde(default)]
    number_is_dead: bool,
}

#[derive(Deserialize)]
struct Messages {
    messages: Vec<Sent>,
}

/// An answer that is an error.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Said {
    code: String,
    message: String,
}

impl Provider for HttpProvider<'_> {
    fn name(&self) -> &'static str {
        "http"
    }

    async fn send(&self, message: &Message) -> Result<Found, Trouble> {
        let Message { to, text, sender, tag, purpose, expires_at } = message;
        let (sender, purpose, expires_at) = (sender.as_deref(), *purpose, *expires_at);
        let body = serde_json::to_string(&NewMessage { to, text, sender, tag, purpose, expires_at });
        let body = body.map_err(|error| refused("invalid_message", error.to_string()))?;
        let answer = self.ask(Method::POST, &self.account.url, Some(body)).await?;
        if !answer.status.is_success() {
            return Err(self.refusal(&answer));
        }
        let sent: Sent = serde_json::from_slice(&answer.body).map_err(|_| unreadable("the message"))?;
        Ok(Found { id: sent.id, credits: sent.credits, credits_left: sent.credits_left })
    }

    async fn find(&self, tag: &str) -> Result<Option<Found>, Trouble> {
        let mut tagged = self.tagged(tag).await?.into_iter();
        Ok(tagged.next().map(|sent| Found { id: sent.id, credits: sent.credits, credits_left: None }))
    }

    /// It is asked for a tag that no message has.
    async fn credits_left(&self) -> Result<Option<f64>, Trouble> {
        self.find("fourmi-check").await.map(|_| None)
    }

    async fn delivery(&self, id: &str, tag: &str) -> Result<Delivery, Trouble> {
        let sent = self.tagged(tag).await?.into_iter().find(|sent| sent.id == id);
        Ok(match sent {
            Some(Sent {
                state: Some(state @ (SmsState::Delivered | SmsState::Undelivered)),
                code,
                delivered_at,
                number_is_dead,
                ..
            }) => Delivery { state, code, reason: None, delivered_at, is_number_dead: number_is_dead },
            _ => Delivery {
                state: SmsState::Accepted,
                code: None,
                reason: None,
                delivered_at: None,
                is_number_dead: false,
            },
        })
    }
}

impl HttpProvider<'_> {
    async fn tagged(&self, tag: &str) -> Result<Vec<Sent>, Trouble> {
        let mut url = Url::parse(&self.account.url)
            .map_err(|_| refused("provider_refused", "the address in the account is none"))?;
        url.query_pairs_mut().append_pair("tag", tag);
        let answer = self.ask(Method::GET, url.as_str(), None).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(Vec::new());
        }
        if !answer.status.is_success() {
            return Err(self.refusal(&answer));
        }
        let Messages { mut messages } = serde_json::from_slice(&answer.body).map_err(|_| unreadable("a question"))?;
        // One that knows no tags must not be taken for one that has the message.
        messages.retain(|sent| sent.tag.as_deref() == Some(tag));
        Ok(messages)
    }

    async fn ask(&self, method: Method, url: &str, body: Option<String>) -> Result<Answer, Trouble> {
        let mut headers = HeaderMap::new();
        let token = HeaderValue::from_str(&format!("Bearer {}", self.account.token));
        headers.insert(AUTHORIZATION, self.line.header(token)?);
        if body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        self.line.ask(method, url, headers, body).await
    }

    fn refusal(&self, answer: &Answer) -> Trouble {
        let Said { code, message } = serde_json::from_slice(&answer.body).unwrap_or_default();
        let status = answer.status;
        let message = format!("the provider answered {status}: {}", excerpt(&message));
        match (status, code.as_str()) {
            // It knows the tag.
            (StatusCode::CONFLICT, _) => Trouble::Unknown(Failure::retry("duplicate", message)),
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => self.line.keys_are_wrong(&message),
            (_, "no_credit") => {
                Trouble::Nothing(Failure::permanent("no_credit", message).class(ErrorClass::QuotaExhausted))
            }
            (_, code @ ("invalid_number" | "not_mobile" | "opted_out" | "sender_not_validated")) => {
                refused(code, message)
            }
            _ => refused("provider_refused", message),
        }
    }
}
