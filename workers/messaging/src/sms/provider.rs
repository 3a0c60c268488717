//! What is asked of a provider, and what it may say.

use std::time::Duration;

use fourmi_kinds::SmsPurpose;
use fourmi_model::{ErrorClass, Failure, SmsState};
use jiff::Timestamp;

/// Who sends text messages.
pub(super) trait Provider {
    /// How it is called in results.
    fn name(&self) -> &'static str;

    /// Sends a message, once.
    fn send(&self, message: &Message) -> impl Future<Output = Result<Found, Trouble>> + Send;

    /// The message that was sent with a tag, if the provider has one.
    fn find(&self, tag: &str) -> impl Future<Output = Result<Option<Found>, Trouble>> + Send;

    /// The credits that are left, if the provider counts any. Nothing is sent by it, and nothing paid.
    fn credits_left(&self) -> impl Future<Output = Result<Option<f64>, Trouble>> + Send;

    /// What became of a message that the provider has.
    fn delivery(&self, id: &str, tag: &str) -> impl Future<Output = Result<Delivery, Trouble>> + Send;
}

/// A message to be sent.
pub(super) struct Message {
    /// The number, in the form of E.164.
    pub(super) to: String,
    pub(super) text: String,
    /// Without one, the number of the provider.
    pub(super) sender: Option<String>,
    pub(super) tag: String,
    pub(super) purpose: SmsPurpose,
    /// Nobody needs it after this.
    pub(super) expires_at: Option<Timestamp>,
}

impl Message {
    /// How long somebody needs it.
    pub(super) fn valid_for(&self) -> Option<Duration> {
        self.expires_at.map(|end| Duration::try_from(end.duration_since(Timestamp::now())).unwrap_or_default())
    }
}

/// A message that the provider has.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Found {
    pub(super) id: String,
    /// What it costs, if the provider says so.
    pub(super) credits: Option<f64>,
    /// What is left of the account's credits, if the provider says so.
    pub(super) credits_left: Option<f64>,
}

/// What became of a message.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Delivery {
    /// `Accepted` while nobody knows.
    pub(super) state: SmsState,
    /// What the provider says, as a code of its own.
    pub(super) code: Option<String>,
    /// The same for a person.
    pub(super) reason: Option<&'static str>,
    pub(super) delivered_at: Option<Timestamp>,
    /// Whether nothing must be sent to this number any more.
    pub(super) is_number_dead: bool,
}

/// Why a provider has not done what was asked.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It has done nothing, for sure. The failure says what happens next.
    Nothing(Failure),
    /// It may have done it. The failure says why nobody knows.
    Unknown(Failure),
}

impl Trouble {
    /// Why it failed, for who only asks.
    pub(super) fn failure(self) -> Failure {
        match self {
            Self::Nothing(failure) | Self::Unknown(failure) => failure,
        }
    }
}

/// The provider would not have it, and would not have it again.
pub(super) fn refused(code: &str, message: impl Into<String>) -> Trouble {
    Trouble::Nothing(Failure::permanent(code, message))
}

/// The provider answered what nobody understands.
pub(super) fn unreadable(what: &str) -> Trouble {
    let message = format!("the provider's answer to {what} cannot be read");
    Trouble::Unknown(Failure::retry("provider_unavailable", message).class(ErrorClass::Unavailable))
}
