//! Where events of all queues come together and go to the feeds that want them. A job is read once, however many feeds
//! are interested, and only if one may be; without feeds, nothing is done at all.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};

use fourmi_model::{Job, JobId, Progress, QueueName, State};
use jiff::Timestamp;
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use super::{
    Gap, GapReason, Shared,
    known::{Known, Memory},
    line::Line,
    pending::Far,
};
use crate::{
    event::{Event, What},
    link::Link,
    reader,
};

/// Jobs that wait to be read, at most.
const UNREAD: usize = 20_000;

/// Jobs that are read at once.
const GROUP: usize = 200;

/// The pause after Redis did not answer.
const READ_AGAIN: Duration = Duration::from_millis(200);

/// Passes events on to feeds.
#[derive(Default)]
pub(crate) struct Hub {
    inside: Mutex<Inside>,
    to_read: Notify,
    /// Whether the subscription has stood once.
    standing: watch::Sender<bool>,
    /// When something was heard last, in milliseconds.
    heard: AtomicI64,
}

#[derive(Default)]
struct Inside {
    feeds: Vec<Arc<Shared>>,
    known: Memory,
    unread: Line<Unread>,
    /// Jobs that are being read.
    reading: HashSet<Uuid>,
}

/// A job that must be read.
struct Unread {
    arrived: Timestamp,
    /// Whether it has come further and is otherwise as it was.
    only_further: bool,
}

impl Hub {
    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until events come at all.
    pub(super) async fn stands(&self) {
        // The sender is here: it cannot be gone.
        let _ = self.standing.subscribe().wait_for(|standing| *standing).await;
    }

    pub(super) fn add(&self, feed: &Arc<Shared>) {
        self.inside().feeds.push(feed.clone());
    }

    pub(super) fn remove(&self, feed: &Arc<Shared>) {
        let mut inside = self.inside();
        inside.feeds.retain(|other| !Arc::ptr_eq(other, feed));
        if inside.feeds.is_empty() {
            *inside = Inside::default();
        }
    }

    /// Remembers a job that a feed gave without having heard of it.
    pub(super) fn meet(&self, job: &Job) {
        let mut inside = self.inside();
        if inside.known.get(job.id.uuid()).is_none() {
            // Other feeds may not have been told of this version.
            inside.known.put(Known { version: 0, ..Known::of(job) });
        }
    }

    /// The subscription stands: what happened before may have been missed.
    pub(crate) fn subscribed(&self) {
        let since = Timestamp::from_millisecond(self.heard.load(Relaxed)).unwrap_or_default();
        let gap = Gap { since, missed: None, reason: GapReason::Interrupted };
        self.inside().feeds.iter().for_each(|feed| feed.change(|pending| pending.add_gap(gap)));
        self.heard.store(Timestamp::now().as_millisecond(), Relaxed);
        self.standing.send_replace(true);
    }

    /// Something has happened to a job of this queue.
    pub(crate) fn tell(&self, queue: &QueueName, event: &Event<'_>) {
        let now = Timestamp::now();
        self.heard.store(now.as_millisecond(), Relaxed);
        let (state, progress) = match event.what {
            What::Line(_) => return,
            What::State(state) => (state, None),
            What::Progress { state, run, json } => (state, Some((run, json))),
        };
        let mut inside = self.inside();
        if !inside.feeds.is_empty() && inside.is_wanted(queue, event, state) {
            match progress {
                Some((run, json)) if inside.may_tell_progress(event.job) => {
                    inside.tell_progress(event, state, run, json, now);
                }
                _ => inside.have_read(JobId::from_parts(queue.clone(), event.job), now, progress.is_some()),
            }
            self.to_read.notify_one();
        }
    }

    /// The jobs that are not over, of those that feeds were told of.
    pub(crate) fn unfinished(&self) -> Vec<JobId> {
        self.inside().known.unfinished()
    }

    /// A job has this version; `None` if it is gone.
    pub(crate) fn is_at(&self, id: &JobId, version: Option<u64>) {
        let mut inside = self.inside();
        match version {
            None => inside.known.remove(id.uuid()),
            Some(version) if inside.known.get(id.uuid()).is_some_and(|known| known.version < version) => {
                inside.have_read(id.clone(), Timestamp::now(), false);
                self.to_read.notify_one();
            }
            Some(_) => {}
        }
    }

    /// Reads the jobs that must be read, for ever.
    pub(crate) async fn read_on(self: Arc<Self>, link: Link) {
        loop {
            let group = self.inside().take_group();
            if group.is_empty() {
                self.to_read.notified().await;
            } else if !self.read(&link, group).await {
                tokio::time::sleep(READ_AGAIN).await;
            }
        }
    }

    /// Reads jobs of one queue and tells of them in the order in which they came; `false` if some must be read again.
    async fn read(&self, link: &Link, group: Vec<(JobId, Unread)>) -> bool {
        let Some(queue) = group.first().map(|(id, _)| id.queue().clone()) else { return true };
        let ids: Vec<Uuid> = group.iter().map(|(id, _)| id.uuid()).collect();
        let answers = reader::jobs(link, &queue, &ids).await;
        let mut inside = self.inside();
        inside.reading.clear();
        let mut all = true;
        for ((id, unread), answer) in group.into_iter().zip(answers) {
            match answer {
                Ok(Some(job)) => inside.tell_job(&job, &unread),
                Ok(None) | Err(crate::QueueError::Corrupt(_)) => inside.known.remove(id.uuid()),
                Err(_) => {
                    all = false;
                    inside.have_read(id, unread.arrived, unread.only_further);
                }
            }
        }
        all
    }
}

impl Inside {
    /// Whether a feed may want to hear of this.
    fn is_wanted(&mut self, queue: &QueueName, event: &Event<'_>, state: State) -> bool {
        let Self { feeds, known, unread, reading } = self;
        let mut known = known.get(event.job);
        if known.as_ref().is_some_and(|known| known.version >= event.version) {
            return false;
        }
        let about = known.as_ref().map(|known| &known.about);
        let is_wanted = feeds.iter().any(|feed| feed.selection.may_want(queue, event.job, state, about));
        if let Some(known) = &mut known
            && !(is_wanted || unread.contains(event.job) || reading.contains(&event.job))
        {
            (known.version, known.state) = (event.version, state);
        }
        is_wanted
    }

    /// Whether progress can be told as it came: nothing older is on its way, and it is known whose it is.
    fn may_tell_progress(&mut self, id: Uuid) -> bool {
        !self.unread.contains(id) && !self.reading.contains(&id) && self.known.get(id).is_some_and(|it| it.version > 0)
    }

    fn tell_progress(&mut self, event: &Event<'_>, state: State, run: u64, json: &str, now: Timestamp) {
        let Ok(progress) = serde_json::from_str::<Progress>(json).map(Arc::new) else { return };
        let Some(known) = self.known.get(event.job) else { return };
        known.version = event.version;
        let far = Far { version: event.version, run, progress };
        for feed in &self.feeds {
            if feed.selection.may_want(known.id.queue(), event.job, state, Some(&known.about)) {
                feed.change(|pending| pending.add_progress(&known.id, far.clone(), now));
            }
        }
    }

    /// Has a job read soon.
    fn have_read(&mut self, id: JobId, arrived: Timestamp, only_further: bool) {
        if let Some(unread) = self.unread.get_mut(id.uuid()) {
            unread.only_further &= only_further;
        } else if self.unread.len() < UNREAD {
            self.unread.push(id, Unread { arrived, only_further });
        } else if !only_further {
            let gap = Gap { since: arrived, missed: None, reason: GapReason::Interrupted };
            self.feeds.iter().for_each(|feed| feed.change(|pending| pending.add_gap(gap)));
        }
    }

    /// The jobs that have waited longest, of one queue.
    fn take_group(&mut self) -> Vec<(JobId, Unread)> {
        let mut group: Vec<(JobId, Unread)> = Vec::new();
        while group.len() < GROUP
            && let Some(next) = self.unread.first()
            && group.first().is_none_or(|(first, _)| first.queue() == next.queue())
        {
            group.extend(self.unread.pop());
        }
        self.reading.extend(group.iter().map(|(id, _)| id.uuid()));
        group
    }

    fn tell_job(&mut self, job: &Arc<Job>, unread: &Unread) {
        let Self { feeds, known, .. } = self;
        let before = known.get(job.id.uuid()).map(|known| (known.version, known.state));
        if before.is_some_and(|(version, _)| version >= job.version) {
            return;
        }
        known.put(Known::of(job));
        let progress = job.progress.clone().filter(|_| unread.only_further);
        let far = progress
            .filter(|_| before.is_some_and(|(version, state)| version > 0 && state == job.state))
            .map(|progress| Far { version: job.version, run: job.run, progress: Arc::new(progress) });
        for feed in feeds.iter().filter(|feed| feed.selection.wants(job)) {
            feed.change(|pending| match &far {
                Some(far) => pending.add_progress(&job.id, far.clone(), unread.arrived),
                None => pending.add_state(job, unread.arrived),
            });
        }
    }
}

#[cfg(test)]
impl Hub {
    /// The jobs that would be read next.
    pub(super) fn group(&self) -> Vec<JobId> {
        self.inside().take_group().into_iter().map(|(id, _)| id).collect()
    }

    /// A job was read that only progress was heard of, or another state too.
    pub(super) fn answer(&self, job: &Job) {
        let mut inside = self.inside();
        inside.reading.clear();
        let only_further = job.progress.is_some();
        inside.tell_job(&Arc::new(job.clone()), &Unread { arrived: Timestamp::now(), only_further });
    }
}
