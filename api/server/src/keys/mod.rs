//! API keys: the records keep hashes of their secrets, and every server knows all of them.

mod first;
mod secret;

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use fourmi_records::{ApiKey, Records, RecordsError};
use fourmi_settings::{Data, RateLimit};
use jiff::Timestamp;
use tokio::{
    sync::Mutex,
    time::{MissedTickBehavior, interval},
};

use crate::caller::{Caller, Rights};

/// How soon every server knows of a change.
const REFRESH: Duration = Duration::from_secs(1);

/// How often it is written down when keys were used.
const NOTE_USE: Duration = Duration::from_secs(30);

/// The keys that open the API.
pub struct Keys {
    records: Records,
    known: ArcSwap<Known>,
    /// Held while it is learned what has changed, so that nobody puts older news in the place of newer ones.
    learning: Mutex<()>,
}

/// All keys as they were at a version of the records.
#[derive(Default)]
struct Known {
    version: i64,
    by_hash: HashMap<[u8; 32], Opening>,
    used: Vec<(String, Arc<Used>)>,
}

/// A secret that opens.
struct Opening {
    caller: Caller,
    /// Until when, in seconds of Unix time.
    until: Option<i64>,
    used: Arc<Used>,
}

/// When a key was used last, in seconds of Unix time: as far as this server knows, and as it is written down.
#[derive(Default)]
struct Used {
    last: AtomicI64,
    noted: AtomicI64,
}

impl Keys {
    /// The keys in the records, and the first one in the data folder, which is made if there is none at all.
    ///
    /// # Errors
    /// If a file cannot be read or made, or the records do not answer.
    pub async fn open(records: Records, data: &Data) -> anyhow::Result<Self> {
        Self::open_all(records, &data.api_key(), &data.api_keys()).await
    }

    async fn open_all(records: Records, plain: &Path, earlier: &Path) -> anyhow::Result<Self> {
        first::ensure(&records, plain, earlier).await?;
        let keys = Self { records, known: ArcSwap::default(), learning: Mutex::default() };
        keys.reload().await?;
        Ok(keys)
    }

    /// Who shows this secret, if it opens anything now.
    pub(crate) fn who(&self, secret: &[u8]) -> Option<Caller> {
        // Secrets are found by their hash: what its comparison takes tells nothing about a secret.
        let known = self.known.load();
        let opening = known.by_hash.get(&secret::hash(secret))?;
        let now = Timestamp::now().as_second();
        if opening.until.is_some_and(|until| until <= now) {
            return None;
        }
        opening.used.last.store(now, Ordering::Relaxed);
        Some(opening.caller.clone())
    }

    /// A new secret, and what is kept of it: its beginning and its hash.
    pub(crate) fn new_secret() -> (String, String, String) {
        let secret = secret::new();
        let (prefix, hash) = (secret::prefix(&secret), hex::encode(secret::hash(secret.as_bytes())));
        (secret, prefix, hash)
    }

    /// The records of the keys.
    pub(crate) fn records(&self) -> &Records {
        &self.records
    }

    /// Learns at once what has changed.
    ///
    /// # Errors
    /// If the records do not answer; what was known is kept then.
    pub(crate) async fn reload(&self) -> Result<(), RecordsError> {
        let _alone = self.learning.lock().await;
        // A change that comes in between is met again at the next look.
        let version = self.records.keys_version().await?;
        let keys = self.records.keys().await?;
        self.known.store(Arc::new(Known::of(version, &keys, &self.known.load())));
        Ok(())
    }

    /// Keeps up with the records, and writes down when keys were used.
    pub(crate) async fn keep_up(self: Arc<Self>) {
        let mut failing = false;
        let mut looks = interval(REFRESH);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut rounds = 0;
        loop {
            looks.tick().await;
            rounds += 1;
            let noting = rounds % NOTE_USE.as_secs() == 0;
            match self.look(noting).await {
                Ok(()) => failing = false,
                Err(error) if !failing => {
                    failing = true;
                    tracing::warn!(%error, "changes of API keys cannot be read; those that were known stay in force");
                }
                Err(_) => {}
            }
        }
    }

    async fn look(&self, noting: bool) -> Result<(), RecordsError> {
        if self.records.keys_version().await? != self.known.load().version {
            self.reload().await?;
        }
        if noting { self.note_use().await } else { Ok(()) }
    }

    /// Writes down when keys were used.
    ///
    /// # Errors
    /// If the records do not answer.
    pub(crate) async fn note_use(&self) -> Result<(), RecordsError> {
        let known = self.known.load_full();
        let news = |(id, used): &(String, Arc<Used>)| {
            let last = used.last.load(Ordering::Relaxed);
            (last > used.noted.swap(last, Ordering::Relaxed))
                .then_some((id.clone(), Timestamp::from_second(last).ok()?))
        };
        let news: Vec<_> = known.used.iter().filter_map(news).collect();
        if news.is_empty() { Ok(()) } else { self.records.keys_used(&news).await }
    }

    /// Keys for tests: just this one, which opens everything, in records of its own.
    #[doc(hidden)]
    pub async fn only(folder: &Path, secret: &str) -> anyhow::Result<Self> {
        let records = Records::open(&folder.join("records")).await?;
        let hash = hex::encode(secret::hash(secret.as_bytes()));
        let id = "key-of-the-tests".to_owned();
        records.add_key(&first::admin(id, secret::prefix(secret), hash, Timestamp::now())).await?;
        let keys = Self { records, known: ArcSwap::default(), learning: Mutex::default() };
        keys.reload().await?;
        Ok(keys)
    }
}

impl Known {
    /// Keys that are taken back open nothing; when the others were used is not forgotten.
    fn of(version: i64, keys: &[ApiKey], before: &Self) -> Self {
        let mut known = Self { version, ..Self::default() };
        for key in keys.iter().filter(|key| key.revoked_at.is_none()) {
            let used = before.used.iter().find(|(id, _)| *id == key.id).map(|(_, used)| Arc::clone(used));
            let used = used.unwrap_or_default();
            let caller = caller(key);
            let previous = key.previous_sha256.as_deref().zip(key.previous_until);
            let previous =
                previous.map(|(hash, until)| (hash, Some(key.expires_at.map_or(until, |end| end.min(until)))));
            for (hash, until) in [(key.sha256.as_str(), key.expires_at)].into_iter().chain(previous) {
                let mut bytes = [0; 32];
                if hex::decode_to_slice(hash, &mut bytes).is_ok() {
                    let until = until.map(Timestamp::as_second);
                    known.by_hash.insert(bytes, Opening { caller: caller.clone(), until, used: Arc::clone(&used) });
                }
            }
            known.used.push((key.id.clone(), used));
        }
        known
    }
}

fn caller(key: &ApiKey) -> Caller {
    Caller::new(Rights {
        id: key.id.clone(),
        tenant: key.tenant.clone(),
        own_only: key.device,
        scopes: key.scopes,
        rate_limit: key.rate_limit.as_deref().and_then(RateLimit::parse),
        login: None,
    })
}
