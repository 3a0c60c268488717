//! Counts requests in token buckets that all API processes share (Redis), and asks for few of them.
//!
//! A process takes a hundredth of a bucket at a time and spends it by itself: so a busy key costs Redis a few calls a
//! second, and never gets more than its quota; at most a hundredth of it is held by a process that does not use it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use fourmi_queue::{Queues, Take, Taken};
use fourmi_settings::RateLimit;

/// The longest that a request waits to be counted; without Redis it passes uncounted.
const LONGEST: Duration = Duration::from_millis(250);

/// For how long requests pass uncounted when Redis did not answer.
const BLIND: Duration = Duration::from_secs(1);

/// Buckets that a process remembers at most.
const MOST_BUCKETS: usize = 50_000;

/// Counts requests.
pub(crate) struct Limiter {
    queues: Queues,
    buckets: Mutex<HashMap<String, Arc<Bucket>>>,
}

/// What a process knows of a bucket.
struct Bucket {
    limit: RateLimit,
    known: Mutex<Known>,
    /// Held while Redis is asked: the others wait for its answer instead of asking too.
    asking: tokio::sync::Mutex<()>,
}

struct Known {
    /// Tokens that were taken and not spent.
    held: u32,
    /// Tokens that were left in Redis.
    left: u32,
    /// When the bucket will be full if nobody takes any.
    full_at: Instant,
    /// Until when there is nothing to be had.
    empty_until: Option<Instant>,
    used_at: Instant,
}

/// How a bucket stands after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Whether the request may pass.
    pub(crate) passes: bool,
    /// Requests that are left, about.
    pub(crate) left: u32,
    /// When it is full again.
    pub(crate) full_in: Duration,
    /// If the request may not pass: when to try again.
    pub(crate) retry_in: Duration,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Limiter {
    pub(crate) fn new(queues: Queues) -> Self {
        Self { queues, buckets: Mutex::default() }
    }

    /// Counts one request against the bucket of this name.
    pub(crate) async fn count(&self, name: &str, limit: RateLimit) -> Standing {
        let bucket = self.bucket(name, limit);
        if let Some(standing) = bucket.spend() {
            return standing;
        }
        let _asking = bucket.asking.lock().await;
        // Another request may have brought tokens, or the news that there are none.
        if let Some(standing) = bucket.spend() {
            return standing;
        }
        let most = (limit.quota / 100).max(1);
        let take = Take { bucket: name, quota: limit.quota, window: limit.window, least: 1, most };
        match tokio::time::timeout(LONGEST, self.queues.take_tokens(&take)).await {
            Ok(Ok(taken)) => bucket.note(&taken),
            Ok(Err(error)) => tracing::debug!(%error, "requests are not counted"),
            Err(_) => tracing::debug!("requests are not counted: Redis does not answer"),
        }
        bucket.spend().unwrap_or_else(|| bucket.pass_blindly())
    }

    fn bucket(&self, name: &str, limit: RateLimit) -> Arc<Bucket> {
        let mut buckets = lock(&self.buckets);
        if let Some(bucket) = buckets.get(name).filter(|bucket| bucket.limit == limit) {
            return Arc::clone(bucket);
        }
        if buckets.len() >= MOST_BUCKETS {
            let now = Instant::now();
            buckets.retain(|_, bucket| now < lock(&bucket.known).used_at + bucket.limit.window);
            if buckets.len() >= MOST_BUCKETS {
                // More callers than can be told apart here; Redis still knows them.
                buckets.clear();
            }
        }
        let bucket = Arc::new(Bucket::new(limit));
        buckets.insert(name.to_owned(), Arc::clone(&bucket));
        bucket
    }
}

impl Bucket {
    fn new(limit: RateLimit) -> Self {
        let now = Instant::now();
        let known = Known { held: 0, left: limit.quota, full_at: now, empty_until: None, used_at: now };
        Self { limit, known: Mutex::new(known), asking: tokio::sync::Mutex::default() }
    }

    /// Spends a token that is held; `None` if Redis must be asked.
    fn spend(&self) -> Option<Standing> {
        let now = Instant::now();
        let mut known = lock(&self.known);
        known.used_at = now;
        if known.held > 0 {
            known.held -= 1;
            return Some(known.standing(now));
        }
        known.empty_until.filter(|until| *until > now)?;
        Some(Standing { passes: false, ..known.standing(now) })
    }

    fn note(&self, taken: &Taken) {
        let now = Instant::now();
        let mut known = lock(&self.known);
        known.held += taken.tokens;
        known.left = taken.left;
        known.full_at = now + taken.full_in;
        known.empty_until = (taken.tokens == 0).then(|| now + taken.next_in.max(Duration::from_millis(1)));
    }

    /// Nobody can say whether this is one too many: it passes, and so do others for a while, without asking.
    fn pass_blindly(&self) -> Standing {
        let now = Instant::now();
        let mut known = lock(&self.known);
        let a_while = u128::from(self.limit.quota) * BLIND.as_millis() / self.limit.window.as_millis().max(1);
        known.held = u32::try_from(a_while).unwrap_or(u32::MAX);
        known.standing(now)
    }
}

impl Known {
    fn standing(&self, now: Instant) -> Standing {
        Standing {
            passes: true,
            left: self.left.saturating_add(self.held),
            full_in: self.full_at.saturating_duration_since(now),
            retry_in: self.empty_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now)),
        }
    }
}
