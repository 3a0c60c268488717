//! `webhook.deliver`: signs a message, sends it, and reads the answer.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use fourmi_egress::{DirectError, EgressError};
use fourmi_kinds::{WEBHOOK_DELAYS, WebhookDeliver, WebhookDelivered};
use fourmi_model::{ErrorClass, Failure, WebhookId};
use fourmi_records::Webhook;
use fourmi_runtime::Context;
use fourmi_secrets::Secrets;
use hmac::{Hmac, KeyInit, Mac};
use jiff::{Timestamp, fmt::rfc2822};
use reqwest::{
    Response, StatusCode,
    header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER},
};
use sha2::Sha256;

use crate::office::Office;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// The longest wait that an answer may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

/// How much of an answer goes into the log of a failed attempt, in bytes.
const EXCERPT: usize = 512;

/// Sends a message once.
pub(crate) async fn run(
    office: Arc<Office>,
    job: WebhookDeliver,
    context: Context,
) -> Result<WebhookDelivered, Failure> {
    let desk = office.desk(context.settings()).await?;
    let gone = |code, message: &str| Failure::permanent(code, message);
    let Some(webhook) = desk.webhook(&job.webhook).await? else {
        return Err(gone("webhook_deleted", "the webhook was deleted"));
    };
    if webhook.disabled_at.is_some() {
        return Err(gone("webhook_disabled", "the webhook is disabled: enable it, and have the message sent again"));
    }
    let now = Timestamp::now();
    let headers = headers(&desk.secrets, &webhook, &job, now)?;
    let url = job.url.as_ref().unwrap_or(&webhook.url);
    let sent = Instant::now();
    let answer = tokio::select! {
        answer = desk.direct.post(url, headers, job.body.clone(), PATIENCE) => answer,
        () = context.cancelled() => return Err(Failure::cancelled()),
    };
    let delay = delay_after(context.attempt());
    let answer = answer.map_err(|error| unanswered(error, delay))?;
    let duration_ms = u64::try_from(sent.elapsed().as_millis()).unwrap_or(u64::MAX);
    let status = answer.status();
    if status.is_success() {
        // The connection is kept only if the answer was read.
        read(answer).await;
        return Ok(WebhookDelivered { status: status.as_u16(), duration_ms });
    }
    Err(refused(answer, delay, now).await)
}

/// The headers of a message: its id, the time of this attempt, and a signature by each secret that is valid.
fn headers(secrets: &Secrets, webhook: &Webhook, job: &WebhookDeliver, now: Timestamp) -> Result<HeaderMap, Failure> {
    let previous = webhook.previous_secret.iter().filter(|_| webhook.previous_until.is_some_and(|until| until > now));
    let mut signatures = Vec::new();
    for sealed in [&webhook.secret].into_iter().chain(previous) {
        let Some(secret) = secrets.open(&seal_context(&webhook.id), sealed) else {
            let message = "the secret of the webhook cannot be opened: FOURMI_SECRET_KEY is another than when it was made; \
                           give it a new one";
            return Err(Failure::permanent("webhook_secret", message).class(ErrorClass::NotConfigured));
        };
        signatures.push(signature(&secret, &job.message, now.as_second(), &job.body));
    }
    let unwritable =
        |_| Failure::permanent("webhook_message", "the message cannot be written").class(ErrorClass::Internal);
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert("webhook-id", HeaderValue::from_str(&job.message).map_err(unwritable)?);
    headers.insert("webhook-timestamp", HeaderValue::from(now.as_second()));
    headers.insert("webhook-signature", HeaderValue::from_str(&signatures.join(" ")).map_err(unwritable)?);
    Ok(headers)
}

/// What the secret of a webhook is sealed for.
fn seal_context(id: &WebhookId) -> String {
    format!("webhook {id}")
}

/// `v1,` and the HMAC-SHA256 of id, time and body (Standard Webhooks 1.0.0, "Symmetric signatures").
fn signature(secret: &[u8], message: &str, time: i64, body: &str) -> String {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("a key");
    mac.update(format!("{message}.{time}.{body}").as_bytes());
    format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()))
}

/// How long to wait after this failed attempt, with a quarter more or less by chance.
fn delay_after(attempt: u32) -> Duration {
    let place = usize::try_from(attempt.max(1) - 1).unwrap_or(usize::MAX).min(WEBHOOK_DELAYS.len() - 1);
    WEBHOOK_DELAYS[place].mul_f64(0.75 + rand::random::<f64>() / 2.0)
}

/// Why there was no answer.
fn unanswered(error: DirectError, delay: Duration) -> Failure {
    let failure = match &error {
        DirectError::NotHttps(_) => {
            Failure::permanent("webhook_address", "the address is not https; give the webhook another one")
        }
        DirectError::Egress(EgressError::Forbidden { .. }) => {
            let message = "the address is not of the public internet; the operator can open it (FOURMI_EGRESS_ALLOW)";
            Failure::permanent("webhook_address", message)
        }
        DirectError::Egress(_) | DirectError::Http(_) => {
            Failure::retry_after(delay, "webhook_unreachable", "the address cannot be reached")
                .class(ErrorClass::Unavailable)
        }
        DirectError::TimedOut(longest) => {
            let message = format!("there was no answer within {} s", longest.as_secs());
            Failure::retry_after(delay, "webhook_timeout", message).class(ErrorClass::Timeout)
        }
    };
    failure.because(error)
}

/// What to make of an answer that is no success.
async fn refused(answer: Response, delay: Duration, now: Timestamp) -> Failure {
    let status = answer.status();
    let asked = answer.headers().get(RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?, now));
    let excerpt = read(answer).await;
    let failure = if status == StatusCode::GONE {
        Failure::permanent("webhook_gone", "the address answered 410: it wants no messages any more")
    } else {
        let delay = delay.max(asked.unwrap_or_default().min(LONGEST_WAIT));
        let message = match status.is_redirection() {
            true => {
                format!("the address answered {status}: redirects are not followed, give the webhook the new address")
            }
            false => format!("the address answered {status}"),
        };
        let class = if asked.is_some() || status == StatusCode::TOO_MANY_REQUESTS {
            ErrorClass::RateLimited
        } else {
            ErrorClass::Unavailable
        };
        Failure::retry_after(delay, format!("http_{}", status.as_u16()), message).class(class)
    };
    if excerpt.is_empty() { failure } else { failure.because(excerpt) }
}

/// Seconds, or a date (RFC 9110, 10.2.3).
pub(crate) fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = rfc2822::DateTimeParser::new().parse_timestamp(value.trim()).ok()?;
    Some(Duration::try_from(date.duration_since(now)).unwrap_or_default())
}

/// The beginning of an answer's body as text, without what a terminal would obey.
pub(crate) async fn read(mut answer: Response) -> String {
    let mut start = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        start.extend_from_slice(&chunk[..chunk.len().min(EXCERPT - start.len())]);
        if start.len() >= EXCERPT {
            break;
        }
    }
    let text = String::from_utf8_lossy(&start);
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification.
    #[test]
    fn a_signature_is_that_of_the_specification() {
        let secret = BASE64_STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = signature(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn the_waits_are_those_of_the_schedule() {
        for (attempt, delay) in (1..).zip(WEBHOOK_DELAYS) {
            let waited = delay_after(attempt);
            assert!(waited >= delay.mul_f64(0.75) && waited <= delay.mul_f64(1.25), "{attempt}: {waited:?}");
        }
        assert!(delay_after(0) < Duration::from_secs(10) && delay_after(u32::MAX) > Duration::from_secs(17 * 3600));
    }

    #[test]
    fn a_wait_is_read_in_both_forms() {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        for (value, seconds) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("Fri, 02 Jan 2026 03:05:05 GMT", Some(60)),
            ("Fri, 02 Jan 2026 03:00:00 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(retry_after(value, now).map(|wait| wait.as_secs()), seconds, "{value}");
        }
    }
}
