//! Following jobs: snapshot, then tail.
//!
//! Events only say that something happened; what happened is read from the job itself. After every gap in the
//! subscription, and every ten seconds, the versions of all watched jobs are compared, so that a final state reaches
//! every watcher even when its event was lost.
//!
//! Lines of the log come with their events. Their numbers tell when one is missing, and then they are read from the log
//! itself: so every line is given once and in order, and a slow reader holds a handful of them.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use fourmi_model::{Job, JobId, LogLine, Progress, QueueName};
use tokio::{sync::Notify, time::interval};
use uuid::Uuid;

use crate::{
    QueueError, Queues, read,
    subscription::{Signal, subscribe},
};

const COMPARE_EVERY: Duration = Duration::from_secs(10);

/// Lines that a watch holds at most.
const LINES_HELD: usize = 64;

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
    /// The number of the newest line of the log that was heard of.
    logged: u64,
    /// Lines without a gap, the last of which is that one; what is not here is read from the log.
    lines: VecDeque<LogLine>,
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
        let mut watch = Watch {
            watcher: self.clone(),
            news,
            version: 0,
            logged: 0,
            read_lines: VecDeque::new(),
            held: None,
            over: false,
        };
        let Some(job) = self.queues.get(id).await? else { return Ok(None) };
        watch.version = job.version;
        watch.logged = job.log_lines;
        watch.caught_up(&job);
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

    fn tell_line(&self, id: Uuid, line: &str) -> Option<()> {
        let watched = lock(&self.0);
        let Some(all) = watched.get(&id) else { return Some(()) };
        let line = read::log_line(line)?;
        all.iter().for_each(|news| news.add_line(&line));
        Some(())
    }

    fn tell_logged(&self, id: Uuid, newest: u64) {
        for news in lock(&self.0).get(&id).into_iter().flatten() {
            news.logged(newest);
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

    fn add_line(&self, line: &LogLine) {
        let mut pending = lock(&self.pending);
        if line.n <= pending.logged {
            return;
        }
        if line.n > pending.logged + 1 || pending.lines.len() == LINES_HELD {
            pending.lines.clear();
        } else {
            pending.lines.push_back(line.clone());
        }
        pending.logged = line.n;
        drop(pending);
        self.arrived.notify_one();
    }

    /// Lines up to this number have been written.
    fn logged(&self, newest: u64) {
        let mut pending = lock(&self.pending);
        if newest > pending.logged {
            pending.logged = newest;
            pending.lines.clear();
            drop(pending);
            self.arrived.notify_one();
        }
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

/// '<id> <version> <state> <run>[ <progress>]' or '<id> <version> log <line>'; `None` if it is none of ours.
fn deliver(watched: &Watched, event: &str) -> Option<()> {
    let mut parts = event.splitn(4, ' ');
    let id = Uuid::try_parse(parts.next()?).ok()?;
    let version = parts.next()?.parse().ok()?;
    let (what, rest) = (parts.next()?, parts.next()?);
    if what == "log" {
        return watched.tell_line(id, rest);
    }
    let (run, progress) = rest.split_once(' ').map_or((rest, None), |(run, json)| (run, Some(json)));
    let run = run.parse().ok()?;
    watched.tell(id, version, progress.map(|json| (run, json)));
    Some(())
}

async fn compare_versions(queues: &Queues, watched: &Watched) -> Result<(), QueueError> {
    for ids in watched.ids().chunks(500) {
        for (id, there) in ids.iter().zip(queues.versions(ids).await?) {
            // A job that is gone has no version: its watch must look, and ends.
            let (version, newest_line) = there.unwrap_or((u64::MAX, 0));
            watched.tell_logged(id.uuid(), newest_line);
            watched.tell(id.uuid(), version, None);
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
    /// The number of the newest line that was given out.
    logged: u64,
    /// Lines that were read from the log because their events were missed.
    read_lines: VecDeque<LogLine>,
    /// A newer document, which waits for the lines before it.
    held: Option<Box<Job>>,
    /// Whether the final state was given out.
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
    /// A run has written a line.
    Log {
        /// The line.
        line: LogLine,
        /// Lines before it that are gone: the log keeps its newest only.
        missed: u64,
    },
}

impl Watch {
    /// Goes back to the line of this number (0: the beginning): what the log has after it is given too. Without this, the
    /// lines that were there with the snapshot are not.
    pub fn log_after(&mut self, line: u64) {
        // A number that is ahead of the log belongs to something else.
        self.logged = line.min(self.logged);
    }

    /// The version of the job and the number of the line that were given out last.
    pub fn place(&self) -> (u64, u64) {
        (self.version, self.logged)
    }

    /// The next thing that happens; `None` once the job is over and that was given out, or if it is no longer kept.
    ///
    /// Progress is coalesced: a slow reader gets the newest, not all. The final state is always given, after all lines of
    /// the log that the log still has. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Update> {
        loop {
            let (stale, progress, logged) = {
                let pending = lock(&self.news.pending);
                (pending.stale, pending.progress.clone(), pending.logged)
            };
            // A state comes after the lines before it, and waits for no later ones.
            if self.logged < self.held.as_ref().map_or(logged, |job| job.log_lines) {
                match self.next_line().await {
                    Ok(Some(line)) => return Some(line),
                    Ok(None) => {}
                    Err(_) => self.until_redis_may_be_back().await,
                }
                continue;
            }
            if let Some(job) = self.held.take() {
                self.version = job.version;
                self.over = job.state.is_final();
                return Some(Update::State(job));
            }
            if self.over {
                return None;
            }
            if stale {
                match self.watcher.queues.get(&self.news.id).await {
                    Ok(None) => self.over = true,
                    Ok(Some(job)) => {
                        self.caught_up(&job);
                        self.held = Some(Box::new(job)).filter(|job| job.version > self.version);
                    }
                    Err(_) => self.until_redis_may_be_back().await,
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
    }

    /// Redis is away: look again when the subscription stands again, or soon.
    async fn until_redis_may_be_back(&self) {
        let _ = tokio::time::timeout(Duration::from_secs(1), self.news.arrived.notified()).await;
    }

    /// The line after the one that was given out last: as it came, or from the log. `None` if there is none.
    async fn next_line(&mut self) -> Result<Option<Update>, QueueError> {
        if let Some(line) = self.held_line() {
            return Ok(Some(self.give(line)));
        }
        match self.watcher.queues.log(&self.news.id, self.logged, LINES_HELD).await {
            Ok(Some(page)) if !page.lines.is_empty() => self.read_lines = page.lines.into(),
            Err(error @ QueueError::Unavailable(_)) => return Err(error),
            // The log is gone with its job, cannot be read, or Redis was put back to an earlier time.
            _ => {
                let newest = lock(&self.news.pending).logged;
                self.logged = self.held.as_ref().map_or(newest, |job| job.log_lines);
            }
        }
        Ok(None)
    }

    /// The line to be given next, if it is held here.
    fn held_line(&mut self) -> Option<LogLine> {
        if let Some(line) = self.read_lines.pop_front() {
            return Some(line);
        }
        let mut pending = lock(&self.news.pending);
        while pending.lines.front().is_some_and(|line| line.n <= self.logged) {
            pending.lines.pop_front();
        }
        if pending.lines.front()?.n == self.logged + 1 { pending.lines.pop_front() } else { None }
    }

    fn give(&mut self, line: LogLine) -> Update {
        let missed = line.n.saturating_sub(self.logged + 1);
        self.logged = line.n;
        Update::Log { line, missed }
    }

    /// Forgets news that this document holds already.
    fn caught_up(&self, job: &Job) {
        self.news.logged(job.log_lines);
        let version = job.version;
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
