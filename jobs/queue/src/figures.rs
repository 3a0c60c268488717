//! Queues as those who watch the platform see them: figures, each read at about the same moment.

use std::{collections::BTreeMap, time::Duration};

use fourmi_model::{ParkReason, QueueName, WorkerInfo};
use jiff::Timestamp;

use crate::{Consumer, Counts, OutboxState, QueueError, Queues, read::meta_key};

/// A queue in figures.
#[derive(Debug, Clone)]
pub struct Figures {
    /// How many of its jobs are in each state.
    pub counts: Counts,
    /// How many of its parked jobs wait for what.
    pub parked: BTreeMap<ParkReason, u64>,
    /// How long ago the oldest job was accepted that waits at the head of a lane; zero if none waits.
    pub oldest_waiting: Duration,
    /// Whether no job of it is started.
    pub paused: bool,
    /// Its live worker processes.
    pub workers: Vec<WorkerInfo>,
    /// How full its outbox is; `None` if nobody consumes it.
    pub outbox: Option<OutboxState>,
    /// What has happened in it so far.
    pub totals: Totals,
}

/// What has happened in a queue so far. Obliterating it begins anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Runs that started.
    pub started: u64,
    /// Runs after which the job was tried again.
    pub retries: u64,
    /// Runs that took their process down.
    pub crashes: u64,
    /// Jobs that failed for good.
    pub dead: u64,
    /// Leases that ran out and were taken back.
    pub reclaimed: u64,
}

impl Queues {
    /// A queue in figures.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn figures(&self, queue: &QueueName) -> Result<Figures, QueueError> {
        // One multiplexed connection: all questions are under way at once.
        let (counts, parked, oldest, control, workers, outbox, totals) = futures_util::try_join!(
            self.counts(queue),
            self.parked(queue),
            self.oldest_waiting(queue),
            self.control(queue),
            self.workers(queue),
            self.outbox(queue, Consumer::Records),
            self.totals(queue),
        )?;
        let now = Timestamp::now();
        let oldest_waiting = oldest.and_then(|at| Duration::try_from(now.duration_since(at)).ok()).unwrap_or_default();
        Ok(Figures { counts, parked, oldest_waiting, paused: control.paused, workers, outbox, totals })
    }

    async fn totals(&self, queue: &QueueName) -> Result<Totals, QueueError> {
        let mut command = redis::cmd("HMGET");
        command.arg(meta_key(queue));
        for name in ["started", "retries", "crashes", "dead", "reclaimed"] {
            command.arg(format!("n:{name}"));
        }
        let totals: [Option<u64>; 5] = self.link().query(&command).await?;
        let [started, retries, crashes, dead, reclaimed] = totals.map(Option::unwrap_or_default);
        Ok(Totals { started, retries, crashes, dead, reclaimed })
    }
}
