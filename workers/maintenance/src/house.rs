//! What all runs of the process share.

use std::sync::Arc;

use anyhow::Context as _;
use fourmi_blobs::{Blobs, Uploads};
use fourmi_model::{ErrorClass, Failure};
use fourmi_queue::Queues;
use fourmi_records::Records;
use fourmi_retention::{Keeper, Reserve};
use fourmi_settings::{Environment, Maintenance};
use tokio::sync::Mutex;

/// The way into the house, which is opened when the first run needs it.
#[derive(Default)]
pub(crate) struct Keys {
    house: Mutex<Option<Arc<House>>>,
}

/// What the platform stands on.
pub(crate) struct House {
    pub(crate) records: Records,
    pub(crate) queues: Queues,
    pub(crate) blobs: Blobs,
    pub(crate) keeper: Keeper,
    pub(crate) reserve: Reserve,
    pub(crate) settings: Maintenance,
}

impl Keys {
    /// The open house.
    ///
    /// # Errors
    /// A retryable failure if something of it cannot be used now.
    pub(crate) async fn open(&self, environment: &Environment) -> Result<Arc<House>, Failure> {
        let mut house = self.house.lock().await;
        if let Some(house) = &*house {
            return Ok(house.clone());
        }
        let opened = House::open(environment).await.map_err(|error| unavailable(format_args!("{error:#}")))?;
        let opened = Arc::new(opened);
        *house = Some(opened.clone());
        Ok(opened)
    }
}

impl House {
    async fn open(environment: &Environment) -> anyhow::Result<Self> {
        let settings = Maintenance::read(environment)?;
        let records = match &settings.database.url {
            Some(url) => Records::connect(url.expose()).await.context("DATABASE_URL")?,
            None => Records::open(&settings.data.records()).await?,
        };
        let redis = &settings.redis;
        let queues = Queues::connect_trusting(redis.url.expose(), redis.authorities.as_deref()).await?;
        let blobs = Blobs::open(settings.data.files()).await?;
        let uploads = Uploads::of(&blobs, settings.uploads.expiry);
        let keeper = Keeper::new(records.clone(), blobs.clone(), uploads, queues.clone(), settings.keep.clone());
        Ok(Self { records, queues, blobs, keeper, reserve: Reserve::new(settings.keep.free_bytes), settings })
    }
}

/// A failure of what the platform stands on, which may be better the next time.
pub(crate) fn unavailable(error: impl std::fmt::Display) -> Failure {
    let failure = Failure::retry("platform_unavailable", "Redis, the records or the files cannot be used now");
    failure.class(ErrorClass::Unavailable).because(error)
}
