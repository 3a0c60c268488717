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

pub(crate) use ovh::Clocks;

use self::{
    account::{ProviderAccount, SmsAccount},
    http::HttpProvider,
    line::Line,
    ovh::Ovh,
    provider::{Delivery, Found, Message, Provider, Trouble},
};
use crate::office::{Desk, Office};

/// The provider of an account.
enum AnyProvider<'a> {
    Ovh(Ovh<'a>),
    Http(HttpProvider<'a>),
}

impl<'a> AnyProvider<'a> {
    fn of(office: &'a Office, desk: &'a Desk, name: &'a str, account: &'a SmsAccount) -> Self {
        let line = Line { direct: &desk.direct, breakers: &office.breakers, account: name };
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

    async fn delivery(&self, id: &str, tag: &str) -> Result<Delivery, Trouble> {
        match self {
            Self::Ovh(provider) => provider.delivery(id, tag).await,
            Self::Http(provider) => provider.delivery(id, tag).await,
        }
    }
}
