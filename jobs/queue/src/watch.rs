//! Following jobs: snapshot, then tail.
//!
//! Events only say that something happened; what happened is read from the job itself. After every gap in the
//! subscription, and every ten seconds, the versions of all watched jobs are compared, so that a final state reaches
//! every watcher even when its event was lost.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use fourmi_model::{Job, JobId, Progress, QueueName};
use tokio::{sync::Notify, time::interval};
use uuid::Uuid;

use crate::{
    QueueError, Queues,
    subscription::{Signal, subscribe},
};

const COMPARE_EVERY: Duration = Duration::from_secs(10);

/// Follows any number of jobs over one subscription; cheap to clone. Stops when the last clone and watch are gone.
#[derive(Clone)]
pub struct Watcher {
    queues: Queues,
    watched: Arc<Watched>,
    _stop_with_last: Arc<tokio_util::task::AbortOnDropHandle<()>>,
}

/// What is watched, by the UUID of the job.
#[derive(Default)]
struct Watched(Mutex<HashMap<Uuid, Vec<Arc<News>>>>);

/// What a watch has not given out yet. Newer news replaces older, so a slow reader holds no memory.
struct News {
    id: JobId,
    pending: Mutex<Pending>,
    arrived: Notify,
}

#[derive(Default)]
struct Pending {
    /// The newest version that was heard of.
    version: u64,
    /// Whether the job itself must be read.
    stale: bool,
    /// Version, run and progress (JSON).
    progress: Option<(u64, u64, String)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watcher {
    /// Subscribes to the events of `names` and keeps the subscription over restarts of Redis.
    pub fn start(queues: Queues, names: Vec<QueueName>) -> Self {
        let watched = Arc::new(Watched::default());
        let task = tokio::spawn(listen(queues.clone(), names, watched.clone()));
        Self { queues, watched, _stop_with_last: Arc::new(tokio_util::task::AbortOnDropHandle::new(task)) }
    }

    /// The job as it is now, and what happens to it from now on; `None` if there is no such job.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn watch(&self, id: &JobId) -> Result<Option<(Job, Watch)>, QueueError> {
        // Listen first, then look: nothing can happen in between.
        let news = Arc::new(News { id: id.clone(), pending: Mutex::default(), arrived: Notify::new() });
        self.watched.add(&news);
        let mut watch = Watch { watcher: self.clone(), news, version: 0, over: false };
        let Some(job) = self.queues.get(id).await? else { return Ok(None) };
        watch.version = job.version;
        watch.caught_up(job.version);
        watch.over = job.state.is_final();
        Ok(Some((job, watch)))
    }
}

impl Watched {
    fn add(&self, news: &Arc<News>) {
        lock(&self.0).entry(news.id.uuid()).or_default().push(news.clone());
    }

    fn remove(&self, news: &Arc<News>) {
        let mut watched = lock(&self.0);
        if let Some(all) = watched.get_mut(&news.id.uuid()) {
            all.retain(|other| !Arc::ptr_eq(other, news));
            if all.is_empty() {
                watched.remove(&news.id.uuid());
            }
        }
    }

    fn tell(&self, id: Uuid, version: u64, progress: Option<(u64, &str)>) {
        for news in lock(&self.0).get(&id).into_iter().flatten() {
            news.add(version, progress);
        }
    }

    fn ids(&self) -> Vec<JobId> {
        lock(&self.0).values().filter_map(|all| all.first().map(|news| news.id.clone())).collect()
    }
}

impl News {
    fn add(&self, version: u64, progress: Option<(u64, &str)>) {
        let mut pending = lock(&self.pending);
        if version <= pending.version {
            return;
        }
        pending.version = version;
        match progress {
            Some((run, json)) => pending.progress = Some((version, run, json.to_owned())),
            None => pending.stale = true,
        }
        drop(pending);
        self.arrived.notify_one();
    }
}

/// Passes events to the watches, and compares versions when events may have been missed.
async fn listen(queues: Queues, names: Vec<QueueName>, watched: Arc<Watched>) {
    let channels = names.iter().map(|name| format!("{{{name}}}:ev")).collect();
    let mut signals = subscribe(queues.link().clone(), channels);
    let mut compare = interval(COMPARE_EVERY);
    loop {
        let missed = tokio::select! {
            _ = compare.tick() => true,
            signal = signals.recv() => match signal {
                Some(Signal::Message(_, lines)) => {
                    lines.lines().any(|line| deliver(&watched, line).is_none())
                }
                Some(Signal::Subscribed) => true,
                None => return,
            },
        };
        if missed && let Err(error) = compare_versions(&queues, &watched).await {
            tracing::debug!(%error, "versions could not be compared; the next round will");
        }
    }
}

/// '<id> <version> <state> <run>[ <progress>]'; `None` if the line is none of ours.
fn deliver(watched: &Watched, line: &str) -> Option<()> {
    let mut parts = line.splitn(5, ' ');
    let id = Uuid::try_parse(parts.next()?).ok()?;
    let version = parts.next()?.parse().ok()?;
    let run = parts.nth(1)?.parse().ok()?;
    watched.tell(id, version, parts.next().map(|json| (run, json)));
    Some(())
}

async fn compare_versions(queues: &Queues, watched: &Watched) -> Result<(), QueueError> {
    for ids in watched.ids().chunks(500) {
        for (id, version) in ids.iter().zip(queues.versions(ids).await?) {
            // A job that is gone has no version: its watch must look, and ends.
            watched.tell(id.uuid(), version.unwrap_or(u64::MAX), None);
        }
    }
    Ok(())
}

/// What happens to one job from a snapshot on.
pub struct Watch {
    watcher: Watcher,
    news: Arc<News>,
    /// The newest version that was given out.
    version: u64,
    over: bool,
}

/// Something that happened to a job.
#[derive(Debug, Clone)]
pub enum Update {
    /// It has entered another state, or something else about it has changed.
    State(Box<Job>),
    /// Its run has come further.
    Progress {
        /// The job's version with this progress.
        version: u64,
        /// The run.
        run: u64,
        /// How far it is.
        progress: Progress,
    },
}

impl Watch {
    /// The next thing that happens; `None` once the job is over and that was given out, or if it is no longer kept.
    ///
    /// Progress is coalesced: a slow reader gets the newest, not all. The final state is always given. Dropping the
    /// future loses nothing.
    pub async fn next(&mut self) -> Option<Update> {
        while !self.over {
            let (stale, progress) = {
                let pending = lock(&self.news.pending);
                (pending.stale, pending.progress.clone())
            };
            if stale {
                match self.watcher.queues.get(&self.news.id).await {
                    Ok(None) => self.over = true,
                    Ok(Some(job)) => {
                        self.caught_up(job.version);
                        if job.version > self.version {
                            self.version = job.version;
                            self.over = job.state.is_final();
                            return Some(Update::State(Box::new(job)));
                        }
                    }
                    // Redis is away: look again when the subscription stands again, or soon.
                    Err(_) => {
                        let _ = tokio::time::timeout(Duration::from_secs(1), self.news.arrived.notified()).await;
                    }
                }
                continue;
            }
            if let Some((version, run, json)) = progress {
                lock(&self.news.pending).progress.take_if(|(newest, ..)| *newest == version);
                if version > self.version
                    && let Ok(progress) = serde_json::from_str(&json)
                {
                    self.version = version;
                    return Some(Update::Progress { version, run, progress });
                }
                continue;
            }
            self.news.arrived.notified().await;
        }
        None
    }

    /// Forgets news that a document of `version` holds already.
    fn caught_up(&self, version: u64) {
        let mut pending = lock(&self.news.pending);
        // `u64::MAX` stands for a job that was not found; it is here after all.
        if pending.version <= version || pending.version == u64::MAX {
            pending.version = version;
            pending.stale = false;
        }
        pending.progress.take_if(|(newest, ..)| *newest <= version);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.watcher.watched.remove(&self.news);
    }
}
