//! The line to a provider: a question, its answer, and how sure it is that the question has arrived.

use std::time::{Duration, Instant};

use fourmi_egress::{Direct, DirectError, EgressError};
use fourmi_model::{ErrorClass, Failure, ParkReason};
use jiff::Timestamp;
use reqwest::{
    Method, Response, StatusCode,
    header::{HeaderMap, HeaderValue, InvalidHeaderValue, RETRY_AFTER},
};

use super::provider::Trouble;
use crate::{answer::read_body, breaker::Breakers, webhook::retry_after};

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// The longest wait that an answer may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// The wait after an answer that asks for one and does not say how long.
const WAIT: Duration = Duration::from_secs(10);

/// The most of an answer that is read, in bytes.
const MOST: usize = 256 * 1024;

/// The line to the provider of an account.
pub(super) struct Line<'a> {
    pub(super) direct: &'a Direct,
    pub(super) breakers: &'a Breakers,
    /// The name of the account.
    pub(super) account: &'a str,
}

/// An answer that is neither an outage, nor a way to somebody else, nor a wish to be left alone.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Vec<u8>,
}

impl Line<'_> {
    /// Asks once.
    pub(super) async fn ask(
        &self,
        method: Method,
        url: &str,
        headers: HeaderMap,
        body: Option<String>,
    ) -> Result<Answer, Trouble> {
        self.breakers.admit(self.account).map_err(Trouble::Nothing)?;
        let asked = Instant::now();
        let answer = self.direct.send(method, url, headers, body.map(Into::into), PATIENCE).await;
        let answer = answer.map_err(|error| self.unanswered(&error))?;
        let status = answer.status();
        self.breakers.took(self.account, asked.elapsed(), status.as_str());
        if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT {
            self.breakers.failed(self.account);
            return Err(Trouble::Unknown(unavailable(format!("the provider answered {status}"))));
        }
        self.breakers.answered(self.account);
        // Nobody says what was done before one was sent elsewhere, and the question is not asked there.
        if status.is_redirection() {
            return Err(Trouble::Unknown(unavailable(format!("the provider answered {status}"))));
        }
        if status == StatusCode::TOO_MANY_REQUESTS {
            return Err(Trouble::Nothing(rate_limited(&answer)));
        }
        let body = read_body(answer, MOST).await.map_err(|error| {
            Trouble::Unknown(unavailable("the provider's answer was cut off".to_owned()).because(error.without_url()))
        })?;
        Ok(Answer { status, body })
    }

    fn unanswered(&self, error: &DirectError) -> Trouble {
        let failure = match error {
            DirectError::NotHttps(_) | DirectError::Egress(EgressError::Forbidden { .. }) => {
                let message = format!(
                    "the address in secrets/{} is not https, or of the inside; the operator can open it \
                     (FOURMI_EGRESS_ALLOW)",
                    self.account
                );
                return Trouble::Nothing(Failure::park(ParkReason::NotConfigured, message));
            }
            DirectError::TimedOut(longest) => {
                let message = format!("the provider did not answer within {} s", longest.as_secs());
                Failure::retry("provider_unavailable", message).class(ErrorClass::Timeout)
            }
            DirectError::Egress(_) | DirectError::Http(_) => unavailable("the provider cannot be reached".to_owned()),
        };
        self.breakers.failed(self.account);
        let failure = failure.because(error);
        if error.is_doubtful() { Trouble::Unknown(failure) } else { Trouble::Nothing(failure) }
    }

    /// The operator has to see to the keys.
    pub(super) fn keys_are_wrong(&self, said: &str) -> Trouble {
        let message = format!(
            "auth: the provider refuses the keys of the account {} (403): check their rights (GET and POST on /sms/*), renew \
             the consumer key, and write it into secrets/{}. It said: {said}",
            self.account, self.account
        );
        tracing::error!(provider.account = self.account, "the provider of text messages refuses the keys");
        Trouble::Nothing(Failure::park(ParkReason::NotConfigured, message))
    }

    /// A header of the account, which may hold what no header can.
    pub(super) fn header(&self, value: Result<HeaderValue, InvalidHeaderValue>) -> Result<HeaderValue, Trouble> {
        value.map_err(|_| {
            let message = format!("a key in secrets/{} holds characters that no key has", self.account);
            Trouble::Nothing(Failure::park(ParkReason::NotConfigured, message))
        })
    }
}

fn unavailable(message: String) -> Failure {
    Failure::retry("provider_unavailable", message).class(ErrorClass::Unavailable)
}

fn rate_limited(answer: &Response) -> Failure {
    let asked = answer.headers().get(RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?, Timestamp::now()));
    let wait = asked.unwrap_or(WAIT).min(LONGEST_WAIT);
    Failure::retry_after(wait, "rate_limited", "the provider wants fewer messages at a time")
}

/// What a provider said, for a person: one line, not too long, and nothing that a terminal would obey.
pub(super) fn excerpt(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}
