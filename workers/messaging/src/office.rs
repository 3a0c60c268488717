//! What all runs of the process share: the records, the secret of the platform, and the way out.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use fourmi_egress::{Direct, Guard};
use fourmi_model::{ErrorClass, Failure, WebhookId};
use fourmi_queue::Queues;
use fourmi_records::{Records, RecordsError, Webhook};
use fourmi_secrets::Secrets;
use fourmi_settings::{Environment, Messaging};
use jiff::Timestamp;
use tokio::time::{MissedTickBehavior, interval};

use crate::{breaker::Breakers, mail::Servers, sms::Clocks};

/// How long a webhook is known: a change of it counts in every process within two seconds.
const KNOWN: Duration = Duration::from_secs(1);

/// How often it is written down how the providers were.
pub(crate) const NOTE: Duration = Duration::from_secs(5);

/// The most webhooks that are known.
const MOST_KNOWN: usize = 10_000;

/// What all runs of the process share; opened when the first run needs it.
#[derive(Default)]
pub(crate) struct Office {
    /// How the providers are.
    pub(crate) breakers: Breakers,
    /// What time the providers of text messages have.
    pub(crate) clocks: Clocks,
    /// The queues, from the start of the worker on.
    pub(crate) queues: OnceLock<Queues>,
    desk: tokio::sync::Mutex<Option<Arc<Desk>>>,
}

/// The open office.
pub(crate) struct Desk {
    pub(crate) secrets: Secrets,
    pub(crate) direct: Direct,
    /// For many requests at a time to one host.
    pub(crate) multiplexed: Direct,
    pub(crate) records: Records,
    /// The servers that take mails, with their connections.
    pub(crate) servers: Servers,
    public_url: Option<String>,
    known: Mutex<HashMap<WebhookId, (Instant, Option<Webhook>)>>,
}

impl Office {
    /// The open office.
    ///
    /// # Errors
    /// A retryable failure if the records or the secret cannot be used now.
    pub(crate) async fn desk(&self, environment: &Environment) -> Result<Arc<Desk>, Failure> {
        let mut desk = self.desk.lock().await;
        if let Some(desk) = &*desk {
            return Ok(desk.clone());
        }
        let closed = |error: anyhow::Error| {
            let failure = Failure::retry("records_unavailable", "the records or the secret key cannot be used now");
            failure.class(ErrorClass::Unavailable).because(format_args!("{error:#}"))
        };
        let settings = Messaging::read(environment).map_err(|error| closed(error.into()))?;
        let opened = Arc::new(Desk::open(settings).await.map_err(closed)?);
        *desk = Some(opened.clone());
        Ok(opened)
    }
}

/// Writes down now and then how the providers were; for ever. What cannot be written down now is left out: it is of use for a
/// moment only.
pub(crate) async fn note_providers(office: &Office) {
    let mut turns = interval(NOTE);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        let desk = office.desk.lock().await.clone();
        let Some(desk) = desk else { continue };
        for (account, met) in office.breakers.take_met() {
            if let Err(error) = desk.records.note_provider(&account, &met, Timestamp::now()).await {
                tracing::debug!(%error, "it cannot be written down how a provider was");
            }
        }
    }
}

impl Desk {
    async fn open(settings: Messaging) -> anyhow::Result<Self> {
        let records = match &settings.database.url {
            Some(url) => Records::connect(url.expose()).await.context("DATABASE_URL")?,
            None => Records::open(&settings.data.records()).await?,
        };
        let guard = Guard::parse(&settings.egress_allow)?;
        Ok(Self {
            secrets: Secrets::load(&settings.secrets, &settings.data)?,
            direct: Direct::new(guard.clone()),
            multiplexed: Direct::multiplexed(guard),
            servers: Servers::default(),
            public_url: settings.public_url,
            records,
            known: Mutex::default(),
        })
    }

    /// The address that people reach the platform by, without a slash at its end.
    pub(crate) fn public_url(&self) -> Option<&str> {
        self.public_url.as_deref()
    }

    /// A webhook, as it was a second ago at most.
    ///
    /// # Errors
    /// A retryable failure if the records do not answer.
    pub(crate) async fn webhook(&self, id: &WebhookId) -> Result<Option<Webhook>, Failure> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        if let Some((at, webhook)) = known
            && at.elapsed() < KNOWN
        {
            return Ok(webhook);
        }
        let asked = Instant::now();
        let webhook = self.records.webhook(id).await.map_err(records_unavailable)?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_KNOWN {
            known.clear();
        }
        known.insert(id.clone(), (asked, webhook.clone()));
        Ok(webhook)
    }
}

/// The records do not answer, or refuse.
pub(crate) fn records_unavailable(error: RecordsError) -> Failure {
    let failure = Failure::retry("records_unavailable", "the records cannot be used now");
    failure.class(ErrorClass::Unavailable).because(error)
}
