//! Following jobs: snapshot, then tail.
//!
//! Events only say that something happened; what happened is read from the job itself. After every gap in the
//! subscription, and every ten seconds, the versions of all watched jobs are compared, so that a final state reaches
//! every watcher even when its event was lost.
//!
//! Lines of the log come with their events. Their numbers tell when one is missing, and then they are read from the log
//! itself: so every line is given once and in order, and a slow reader holds a handful of them.

mod news;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use fourmi_model::{Job, JobId, LogLine, Progress, QueueName};
use tokio::time::interval;
use tokio_util::task::AbortOnDropHandle;

use self::news::{LINES_HELD, News, Watched, lock};
use crate::{
    QueueError, Queues,
    event::Event,
    feed::{Feed, Hub, Selection},
    reader::Reader,
    subscription::{Signal, subscribe},
};

const COMPARE_EVERY: Duration = Duration::from_secs(10);

/// What listens; it stops with the last who holds it.
pub(crate) type Task = Arc<AbortOnDropHandle<()>>;

/// Follows any number of jobs over one subscription; cheap to clone. Stops when the last clone and watch are gone.
#[derive(Clone)]
pub struct Watcher {
    queues: Queues,
    reader: Reader,
    watched: Arc<Watched>,
    hub: Arc<Hub>,
    task: Task,
}

impl Watcher {
    /// Subscribes to the events of `names` and keeps the subscription over restarts of Redis.
    pub fn start(queues: Queues, names: Vec<QueueName>) -> Self {
        let (watched, hub) = (Arc::new(Watched::default()), Arc::new(Hub::default()));
        let task = tokio::spawn(listen(queues.clone(), names, watched.clone(), hub.clone()));
        let reader = Reader::start(queues.link().clone());
        Self { queues, reader, watched, hub, task: Arc::new(AbortOnDropHandle::new(task)) }
    }

    /// The job as it is now, and what happens to it from now on; `None` if there is no such job.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn watch(&self, id: &JobId) -> Result<Option<(Job, Watch)>, QueueError> {
        // Listen first, then look: nothing can happen in between.
        let news = Arc::new(News::of(id));
        self.watched.add(&news);
        let mut watch = Watch {
            watcher: self.clone(),
            news,
            version: 0,
            logged: 0,
            without_log: false,
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

    /// What happens from now on to the jobs that are selected.
    ///
    /// # Errors
    /// If Redis did not take the subscription yet.
    pub async fn feed(&self, selection: Selection) -> Result<Feed, QueueError> {
        Feed::open(self.hub.clone(), self.reader.clone(), selection, self.task.clone()).await
    }
}

/// Passes events on, and compares versions when events may have been missed.
async fn listen(queues: Queues, names: Vec<QueueName>, watched: Arc<Watched>, hub: Arc<Hub>) {
    let channels: Vec<_> = names.iter().map(|name| format!("{{{name}}}:ev")).collect();
    let mut signals = subscribe(queues.link().clone(), channels.clone());
    let mut compare = interval(COMPARE_EVERY);
    let _reading = AbortOnDropHandle::new(tokio::spawn(hub.clone().read_on(queues.link().clone())));
    loop {
        let missed = tokio::select! {
            _ = compare.tick() => true,
            signal = signals.recv() => match signal {
                Some(Signal::Message(channel, lines)) => {
                    let queue = channels.iter().position(|known| *known == channel).and_then(|at| names.get(at));
                    // All of them are delivered, whatever is wrong with one.
                    lines.lines().filter(|line| deliver(&watched, &hub, queue, line).is_none()).count() > 0
                }
                Some(Signal::Subscribed) => {
                    hub.subscribed();
                    true
                }
                None => return,
            },
        };
        if missed && let Err(error) = compare_versions(&queues, &watched, &hub).await {
            tracing::debug!(%error, "versions could not be compared; the next round will");
        }
    }
}

/// `None` if the event is none of ours.
fn deliver(watched: &Watched, hub: &Hub, queue: Option<&QueueName>, line: &str) -> Option<()> {
    let event = Event::read(line)?;
    hub.tell(queue?, &event);
    watched.tell(&event)
}

async fn compare_versions(queues: &Queues, watched: &Watched, hub: &Hub) -> Result<(), QueueError> {
    for ids in watched.ids().chunks(500) {
        for (id, there) in ids.iter().zip(queues.versions(ids).await?) {
            // A job that is gone has no version: its watch must look, and ends.
            let (version, newest_line) = there.unwrap_or((u64::MAX, 0));
            watched.is_at(id.uuid(), version, newest_line);
        }
    }
    for ids in hub.unfinished().chunks(500) {
        for (id, there) in ids.iter().zip(queues.versions(ids).await?) {
            hub.is_at(id, there.map(|(version, _)| version));
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
    /// Whether lines are left out.
    without_log: bool,
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

    /// Leaves out the lines of the log.
    pub fn without_log(&mut self) {
        self.without_log = true;
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
            if !self.without_log && self.logged < self.held.as_ref().map_or(logged, |job| job.log_lines) {
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
                match self.watcher.reader.get(&self.news.id).await {
                    Ok(None) => self.over = true,
                    Ok(Some(job)) => {
                        self.caught_up(&job);
                        let is_newer = job.version > self.version;
                        self.held = is_newer.then(|| Box::new(Arc::unwrap_or_clone(job)));
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
