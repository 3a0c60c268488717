//! Refuses new jobs before Redis is full: what was accepted needs room to run and to end.

use std::time::{Duration, Instant};

use tokio::time::timeout;

use crate::{QueueError, RedisHealth, link::Link};

/// The share of Redis's memory limit, in percent, from which on no new jobs are accepted.
const FULL_PERCENT: u128 = 90;

/// How long a look at a Redis with room counts, and at a full one.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How long a look may hold up a push.
const PATIENCE: Duration = Duration::from_millis(200);

/// When a full Redis is worth another try.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// What was last seen.
#[derive(Default)]
pub(crate) struct Pressure(Option<(Instant, bool)>);

impl Pressure {
    /// Whether new jobs may be pushed.
    pub(crate) async fn check(&mut self, link: &Link) -> Result<(), QueueError> {
        let full = match self.0 {
            Some((at, full)) if at.elapsed() < if full { LOOK_AGAIN } else { LOOK_EVERY } => full,
            _ => self.look(link).await,
        };
        if full { Err(QueueError::Full { retry_after: RETRY_AFTER }) } else { Ok(()) }
    }

    async fn look(&mut self, link: &Link) -> bool {
        // A Redis that does not answer will not take the push either, which then says so.
        let health = timeout(PATIENCE, link.health()).await;
        let full = health.is_ok_and(|health| health.is_ok_and(is_full));
        self.0 = Some((Instant::now(), full));
        full
    }
}

fn is_full(health: RedisHealth) -> bool {
    let limit = health.max_memory.map_or(0, u128::from);
    limit > 0 && u128::from(health.used_memory) * 100 >= limit * FULL_PERCENT
}
