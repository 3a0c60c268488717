//! Tells jobs what became of those that they wait for, and ties again what a crash has left untied.

use std::{collections::HashMap, sync::Arc, time::Duration};

use fourmi_model::{Backoff, QueueName};
use redis::Value;
use tokio::{
    sync::Notify,
    time::{MissedTickBehavior, interval, sleep},
};

use super::{Ending, News, STEP, follow, job_id, local_id, tell};
use crate::{
    QueueError, Queues,
    link::Link,
    read::{meta_key, text},
    scripts,
    subscription::{Signal, subscribe},
};

/// The channel that says that there is something to tell.
pub(crate) const CHANNEL: &str = "relay";

/// Jobs that one call hands out at most: with results of 64 KiB each, six megabytes.
const BATCH: usize = 100;

/// How often to look even if nothing was heard.
const POLL: Duration = Duration::from_secs(1);

/// The pause after a failed call.
const BACKOFF: Backoff = Backoff { base: Duration::from_millis(50), cap: Duration::from_secs(1) };

/// Tells those that wait for jobs of one queue, in whichever queue they are. Any number of processes may do it: what is
/// told twice changes nothing.
#[derive(Clone)]
pub struct Relay {
    link: Link,
    queue: QueueName,
}

/// Jobs that are over, with those that are to hear of it; handed out again after five seconds unless they are told.
#[derive(Debug, Default)]
pub struct Told(Vec<News>);

impl Told {
    /// How many jobs are to hear of something.
    pub fn len(&self) -> usize {
        self.0.iter().map(|news| news.kids.len()).sum()
    }

    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Relay {
    /// The relay of `queue`.
    ///
    /// # Errors
    /// If Redis does not answer or keeps this queue in another layout.
    pub async fn of(queues: &Queues, queue: QueueName) -> Result<Self, QueueError> {
        queues.link().check_layout(&queue).await?;
        Ok(Self::on(queues.link().clone(), queue))
    }

    pub(crate) fn on(link: Link, queue: QueueName) -> Self {
        Self { link, queue }
    }

    /// Takes what is to be told: to a thousand jobs at most.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn claim(&self) -> Result<Told, QueueError> {
        let mut call = scripts::RELAY.key(meta_key(&self.queue));
        let answers: Vec<Value> = self.link.invoke(call.arg(BATCH).arg(STEP)).await?;
        let news = answers.chunks_exact(5).map(|answer| {
            let Value::Array(kids) = &answer[4] else {
                return Err(QueueError::Corrupt("the answer of the relay".into()));
            };
            Ok(News {
                parent: local_id(&self.queue, text(&answer[0]))?,
                ending: Ending::read(text(&answer[1]), text(&answer[3]))?,
                version: text(&answer[2]).parse().ok(),
                kids: kids.iter().map(|kid| job_id(text(kid))).collect::<Result<_, _>>()?,
            })
        });
        Ok(Told(news.collect::<Result<_, _>>()?))
    }

    /// Tells what was taken, and notes that it is told.
    ///
    /// # Errors
    /// If Redis does not answer; it is handed out again then.
    pub async fn tell(&self, told: Told) -> Result<(), QueueError> {
        if !told.is_empty() {
            tell(&self.link, &told.0).await?;
        }
        Ok(())
    }

    /// Takes and tells once; how many jobs were told.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn step(&self) -> Result<usize, QueueError> {
        let told = self.claim().await?;
        let count = told.len();
        self.tell(told).await?;
        Ok(count)
    }

    /// Looks at jobs that have waited for a while, and ties them to what they wait for once more; how many.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn sweep(&self) -> Result<usize, QueueError> {
        let mut call = scripts::SWEEP.key(meta_key(&self.queue));
        let answers: Vec<Value> = self.link.invoke(call.arg(STEP)).await?;
        let mut ties = Vec::new();
        for answer in answers.chunks_exact(2) {
            let kid = local_id(&self.queue, text(&answer[0]))?;
            let Value::Array(parents) = &answer[1] else {
                return Err(QueueError::Corrupt("the answer of the sweep".into()));
            };
            for parent in parents {
                ties.push((job_id(text(parent))?, kid.clone()));
            }
        }
        let ties: Vec<_> = ties.iter().map(|(parent, kid)| (parent, kid)).collect();
        follow(&self.link, &ties).await?;
        Ok(answers.len() / 2)
    }

    async fn work(&self, sweep: bool) -> Result<(), QueueError> {
        if sweep {
            self.sweep().await?;
        }
        while self.step().await? > 0 {}
        Ok(())
    }

    /// Tells whatever is to be told, as soon as `woken` or a poll says so, and sweeps once a poll; survives Redis.
    pub(crate) async fn run(&self, woken: &Notify) {
        let mut failures = 0;
        let mut polls = interval(POLL);
        polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let poll = tokio::select! {
                _ = polls.tick() => true,
                () = woken.notified() => false,
            };
            match self.work(poll).await {
                Ok(()) => failures = 0,
                Err(error) => {
                    failures += 1;
                    if failures == 1 {
                        tracing::debug!(queue = %self.queue, %error, "jobs that wait for others have to wait for Redis");
                    }
                    sleep(BACKOFF.delay(failures, rand::random())).await;
                }
            }
        }
    }
}

/// Relays for all of these queues, for ever.
pub async fn relay_all(queues: Queues, names: Vec<QueueName>) {
    let woken: HashMap<String, (QueueName, Arc<Notify>)> =
        names.into_iter().map(|name| (format!("{{{name}}}:{CHANNEL}"), (name, Arc::default()))).collect();
    let relays = woken.values().map(|(name, woken)| {
        let relay = Relay::on(queues.link().clone(), name.clone());
        async move { relay.run(woken).await }
    });
    let listen = async {
        let mut signals = subscribe(queues.link().clone(), woken.keys().cloned().collect());
        while let Some(signal) = signals.recv().await {
            match signal {
                Signal::Message(channel, _) => woken.get(&channel).iter().for_each(|(_, woken)| woken.notify_one()),
                Signal::Subscribed => woken.values().for_each(|(_, woken)| woken.notify_one()),
            }
        }
    };
    futures_util::future::join(listen, futures_util::future::join_all(relays)).await;
}
