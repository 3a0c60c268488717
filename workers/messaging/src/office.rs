//! What all runs of the process share: the records, the secret of the platform, and the way out.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use fourmi_egress::{Direct, Guard};
use fourmi_model::{ErrorClass, Failure, WebhookId};
use fourmi_records::{Records, Webhook};
use fourmi_secrets::Secrets;
use fourmi_settings::{Environment, Messaging};

/// How long a webhook is known: a change of it counts in every process within two seconds.
const KNOWN: Duration = Duration::from_secs(1);

/// The most webhooks that are known.
const MOST_KNOWN: usize = 10_000;

/// What all runs of the process share; opened when the first run needs it.
#[derive(Default)]
pub(crate) struct Office {
    desk: tokio::sync::Mutex<Option<Arc<Desk>>>,
}

/// The open office.
pub(crate) struct Desk {
    pub(crate) secrets: Secrets,
    pub(crate) direct: Direct,
    records: Records,
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

impl Desk {
    async fn open(settings: Messaging) -> anyhow::Result<Self> {
        let records = match &settings.database.url {
            Some(url) => Records::connect(url.expose()).await.context("DATABASE_URL")?,
            None => Records::open(&settings.data.records()).await?,
        };
        Ok(Self {
            secrets: Secrets::load(&settings.secrets, &settings.data)?,
            direct: Direct::new(Guard::parse(&settings.egress_allow)?),
            records,
            known: Mutex::default(),
        })
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
        let webhook = self.records.webhook(id).await.map_err(|error| {
            let failure = Failure::retry("records_unavailable", "the records cannot be read now");
            failure.class(ErrorClass::Unavailable).because(error)
        })?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_KNOWN {
            known.clear();
        }
        known.insert(id.clone(), (asked, webhook.clone()));
        Ok(webhook)
    }
}
