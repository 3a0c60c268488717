//! Text messages: what is sent, through whom, and whether it has arrived.
//!
//! A message must not be sent twice, whatever dies in between. So it is noted before it is sent, and what a run may have sent
//! is sent by no other:
//!
//! ```text
//!            noted            the provider has it
//!   unsent ---------> sending --------------------> accepted ---> delivered | undelivered
//!     ^                | |  \
//!     |  not connected,| |   \ the provider would not have it
//!     '--try later-----' |    '-----------------------> refused
//!                        |
//!          no answer, 5xx, a crash: the provider is asked for the tag of the message, until it
//!          knows it (accepted) or ten minutes have passed (a person decides: accepted, or unsent)
//! ```

mod account;
mod http;
mod line;
mod ovh;
mod policy;
mod provider;
pub(crate) mod receipt;
pub(crate) mod send;

pub(crate) use account::SmsAccount;
pub(crate) use ovh::Clocks;

use fourmi_model::HealthStatus;

use self::{
    account::ProviderAccount,
    http::HttpProvider,
    line::Line,
    ovh::Ovh,
    provider::{Delivery, Found, Message, Provider, Trouble},
};
use crate::{
    breaker::Breakers,
    check::Finding,
    office::{Desk, Office},
};

/// Whether the provider of an account answers, and credits are left.
pub(crate) async fn check(office: &Office, desk: &Desk, name: &str, account: &SmsAccount) -> Finding {
    // What a check meets is not held for or against the provider: its jobs ask other questions.
    let breakers = Breakers::default();
    let left = match AnyProvider::told_to(&breakers, office, desk, name, account).credits_left().await {
        Ok(left) => left,
        Err(trouble) => return Finding::of(trouble.failure()),
    };
    let Some(left) = left else { return Finding::well() };
    let finding = match account.low_credits.unwrap_or_default() {
        low if left < low || left <= 0.0 => Finding::bad(HealthStatus::Degraded, format!("{left} credits are left")),
        _ => Finding::well(),
    };
    finding.with_credits((left * 1000.0).round() as i64)
}

/// The provider of an account.
enum AnyProvider<'a> {
    Ovh(Ovh<'a>),
    Http(HttpProvider<'a>),
}

impl<'a> AnyProvider<'a> {
    fn of(office: &'a Office, desk: &'a Desk, name: &'a str, account: &'a SmsAccount) -> Self {
        Self::told_to(&office.breakers, office, desk, name, account)
    }

    /// One of which these breakers are told how it answers.
    fn told_to(
        breakers: &'a Breakers,
        office: &'a Office,
        desk: &'a Desk,
        name: &'a str,
        account: &'a SmsAccount,
    ) -> Self {
        let line = Line { direct: &desk.direct, breakers, account: name };
        match &account.provider {
            ProviderAccount::Ovh(account) => Self::Ovh(Ovh { line, account, clocks: &office.clocks }),
            ProviderAccount::Http(account) => Self::Http(HttpProvider { line, account }),
        }
    }
}

impl Provider for AnyProvider<'_> {
    fn name(&self) -> &'static str {
        match self {
            Self::Ovh(provider) => provider.name(),
            Self::Http(provider) => provider.name(),
        }
    }

    async fn send(&self, message: &Message) -> Result<Found, Trouble> {
        match self {
            Self::Ovh(provider) => provider.send(message).await,
            Self::Http(provider) => provider.send(message).await,
        }
    }

    async fn find(&self, tag: &str) -> Result<Option<Found>, Trouble> {
        match self {
            Self::Ovh(provider) => provider.find(tag).await,
            Self::Http(provider) => provider.find(tag).await,
        }
    }

    async fn credits_left(&self) -> Result<Option<f64>, Trouble> {
        match self {
            Self::Ovh(provider) => provider.credits_left().await,
            Self::Http(provider) => provider.credits_left().await,
        }
    }

    async fn delivery(&self, id: &str, tag: &str) -> Result<Delivery, Trouble> {
        match self {
            Self::Ovh(provider) => provider.delivery(id, tag).await,
            Self::Http(provider) => provider.delivery(id, tag).await,
        }
    }
}
