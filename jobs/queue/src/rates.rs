//! Rates that all processes share: token buckets in Redis, which any of them may take from.

use std::time::Duration;

use crate::{QueueError, Queues, queues::milliseconds, scripts};

/// Where the buckets lie: no queue can have this name.
const KEY: &str = "{fourmi:door}:m";

/// What is wanted of a bucket, which holds `quota` tokens and fills up in `window`.
#[derive(Debug, Clone)]
pub struct Take<'a> {
    /// Its name.
    pub bucket: &'a str,
    /// The most tokens that it holds.
    pub quota: u32,
    /// How long it takes to fill up from nothing.
    pub window: Duration,
    /// Tokens without which nothing is taken.
    pub least: u32,
    /// The most tokens that are taken.
    pub most: u32,
}

/// What a bucket gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Tokens taken.
    pub tokens: u32,
    /// Tokens left.
    pub left: u32,
    /// How long until there is one.
    pub next_in: Duration,
    /// How long until it is full.
    pub full_in: Duration,
}

impl Queues {
    /// Takes tokens from a bucket.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn take_tokens(&self, take: &Take<'_>) -> Result<Taken, QueueError> {
        let mut call = scripts::RATES.key(KEY);
        call.arg(take.bucket).arg(take.quota).arg(milliseconds(take.window)).arg(take.least).arg(take.most);
        let (tokens, left, next, full) = self.link().invoke(&call).await?;
        Ok(Taken { tokens, left, next_in: Duration::from_millis(next), full_in: Duration::from_millis(full) })
    }
}
