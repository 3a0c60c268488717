//! Following many jobs at once, also such as do not exist yet: what happens to them from now on.
//!
//! As with one job, events only say that something happened. The [`Hub`] reads what has changed, once for all feeds, and
//! gives it to those that want it. What a feed holds is bounded: of each job the newest news, of at most a thousand jobs.
//! What is lost by that, or while there was no subscription, is said: [`Gap`].

mod hub;
mod known;
mod line;
mod pending;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use fourmi_model::{Job, JobId, Progress, QueueName, State};
use futures_util::future::try_join_all;
use jiff::Timestamp;
use tokio::sync::Notify;
use uuid::Uuid;

pub(crate) use self::hub::Hub;
use self::{
    known::About,
    pending::{Entry, Far, Pending},
};
use crate::{JobFilter, QueueError, list, reader::Reader, watch::Task};

/// How long a feed may wait for the first subscription.
const LONGEST: Duration = Duration::from_millis(1_800);

/// How soon a job is read again after Redis did not answer.
const READ_AGAIN: Duration = Duration::from_millis(200);

/// Versions that are remembered at most, so that what was given is not given again.
const GIVEN: usize = 20_000;

/// Which jobs a feed is of.
#[derive(Debug, Clone)]
pub enum Selection {
    /// These, by their UUIDs.
    These(HashSet<Uuid>),
    /// Those of a queue, or of all queues, that a filter wants; what it says of errors and times does not matter. A job
    /// that enters a state which it does not want is left out then.
    Matching(Option<QueueName>, JobFilter),
}

impl Selection {
    fn wants(&self, job: &Job) -> bool {
        match self {
            Self::These(ids) => ids.contains(&job.id.uuid()),
            Self::Matching(queue, filter) => {
                queue.as_ref().is_none_or(|queue| *queue == job.queue) && list::matches(filter, job)
            }
        }
    }

    /// Whether news of a job in this state may be wanted, as far as it is known what job that is.
    fn may_want(&self, queue: &QueueName, id: Uuid, state: State, about: Option<&About>) -> bool {
        match self {
            Self::These(ids) => ids.contains(&id),
            Self::Matching(wanted, filter) => {
                wanted.as_ref().is_none_or(|wanted| wanted == queue)
                    && (filter.states.is_empty() || filter.states.contains(&state))
                    && about.is_none_or(|about| about.fits(filter))
            }
        }
    }
}

/// News of many jobs.
#[derive(Debug, Clone)]
pub struct FeedEvent {
    /// All that arrived before this was given.
    pub at: Timestamp,
    /// What happened.
    pub update: FeedUpdate,
}

/// Something that happened to one of many jobs.
#[derive(Debug, Clone)]
pub enum FeedUpdate {
    /// It has entered another state, or something else about it has changed.
    State(Arc<Job>),
    /// Its run has come further.
    Progress {
        /// The job.
        id: JobId,
        /// Its version with this progress.
        version: u64,
        /// The run.
        run: u64,
        /// How far it is.
        progress: Arc<Progress>,
    },
    /// Something was missed.
    Gap(Gap),
}

/// Something was missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// What was missed happened then or later.
    pub since: Timestamp,
    /// How many changes of state were left out, if that is known.
    pub missed: Option<u64>,
    /// Why.
    pub reason: GapReason,
}

/// Why something was missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GapReason {
    /// It was not read soon enough.
    SlowReader,
    /// The subscription was interrupted.
    Interrupted,
}

/// What the hub and a feed share.
pub(crate) struct Shared {
    selection: Selection,
    pending: Mutex<Pending>,
    arrived: Notify,
}

impl Shared {
    fn with<T>(&self, change: impl FnOnce(&mut Pending) -> T) -> T {
        change(&mut self.pending.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds news.
    fn change(&self, add: impl FnOnce(&mut Pending)) {
        self.with(add);
        self.arrived.notify_one();
    }
}

/// What happens to many jobs; see [`Watcher::feed`](crate::Watcher::feed).
pub struct Feed {
    shared: Arc<Shared>,
    hub: Arc<Hub>,
    reader: Reader,
    /// News that is being given out.
    current: Option<(JobId, Entry)>,
    /// The versions of jobs that were given without the hub.
    given: HashMap<Uuid, u64>,
    _listening: Task,
}

impl Feed {
    pub(crate) async fn open(
        hub: Arc<Hub>,
        reader: Reader,
        selection: Selection,
        listening: Task,
    ) -> Result<Self, QueueError> {
        let silent = |_| QueueError::Unavailable("no subscription yet".into());
        tokio::time::timeout(LONGEST, hub.stands()).await.map_err(silent)?;
        let shared = Arc::new(Shared { selection, pending: Mutex::default(), arrived: Notify::new() });
        hub.add(&shared);
        Ok(Self { shared, hub, reader, current: None, given: HashMap::new(), _listening: listening })
    }

    /// Those of these jobs that there are and that the feed is of, as they are now; older news of them will not be given
    /// any more.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn read(&mut self, ids: &[JobId]) -> Result<Vec<Arc<Job>>, QueueError> {
        let jobs = try_join_all(ids.iter().map(|id| self.reader.get(id))).await?;
        let jobs: Vec<_> = jobs.into_iter().flatten().filter(|job| self.shared.selection.wants(job)).collect();
        for job in &jobs {
            self.hub.meet(job);
            self.note(job);
        }
        Ok(jobs)
    }

    /// The next thing that happens. Dropping the future loses nothing.
    pub async fn next(&mut self) -> FeedEvent {
        loop {
            if let Some(gap) = self.shared.with(Pending::take_gap) {
                return FeedEvent { at: gap.since, update: FeedUpdate::Gap(gap) };
            }
            if self.current.is_none() {
                self.current = self.shared.with(Pending::take);
            }
            match &self.current {
                None => self.shared.arrived.notified().await,
                Some(_) => {
                    if let Some(event) = self.give().await {
                        return event;
                    }
                }
            }
        }
    }

    /// Gives out what there is of one job: first its state, then its progress.
    async fn give(&mut self) -> Option<FeedEvent> {
        let (id, entry) = self.current.as_mut()?;
        let at = entry.arrived;
        if let Some(news) = &mut entry.state {
            let as_told = news.document.is_some();
            let job = match news.document.take() {
                Some(job) => Ok(Some(job)),
                None => self.reader.get(id).await,
            };
            let Ok(job) = job else {
                tokio::time::sleep(READ_AGAIN).await;
                return None;
            };
            entry.state = None;
            let job = job.filter(|job| as_told || self.shared.selection.wants(job))?;
            let is_news = self.given.get(&job.id.uuid()).is_none_or(|given| *given < job.version);
            if !as_told {
                self.note(&job);
            }
            return is_news.then_some(FeedEvent { at, update: FeedUpdate::State(job) });
        }
        let (id, entry) = self.current.take()?;
        let Far { version, run, progress } = entry.progress?;
        let is_news = self.given.get(&id.uuid()).is_none_or(|given| *given < version);
        is_news.then_some(FeedEvent { at, update: FeedUpdate::Progress { id, version, run, progress } })
    }

    fn note(&mut self, job: &Job) {
        if self.given.len() >= GIVEN {
            self.given.clear();
        }
        self.given.insert(job.id.uuid(), job.version);
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.hub.remove(&self.shared);
    }
}
