//! What watches have not given out yet.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use fourmi_model::{JobId, LogLine};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::{
    event::{Event, What},
    read,
};

/// Lines that a watch holds at most.
pub(super) const LINES_HELD: usize = 64;

/// What is watched, by the UUID of the job.
#[derive(Default)]
pub(super) struct Watched(Mutex<HashMap<Uuid, Vec<Arc<News>>>>);

/// What a watch has not given out yet. Newer news replaces older, so a slow reader holds no memory.
pub(super) struct News {
    pub(super) id: JobId,
    pub(super) pending: Mutex<Pending>,
    pub(super) arrived: Notify,
}

#[derive(Default)]
pub(super) struct Pending {
    /// The newest version that was heard of.
    pub(super) version: u64,
    /// Whether the job itself must be read.
    pub(super) stale: bool,
    /// Version, run and progress (JSON).
    pub(super) progress: Option<(u64, u64, String)>,
    /// The number of the newest line of the log that was heard of.
    pub(super) logged: u64,
    /// Lines without a gap, the last of which is that one; what is not here is read from the log.
    pub(super) lines: VecDeque<LogLine>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watched {
    pub(super) fn add(&self, news: &Arc<News>) {
        lock(&self.0).entry(news.id.uuid()).or_default().push(news.clone());
    }

    pub(super) fn remove(&self, news: &Arc<News>) {
        let mut watched = lock(&self.0);
        if let Some(all) = watched.get_mut(&news.id.uuid()) {
            all.retain(|other| !Arc::ptr_eq(other, news));
            if all.is_empty() {
                watched.remove(&news.id.uuid());
            }
        }
    }

    /// Passes an event on; `None` if it holds a line that cannot be read.
    pub(super) fn tell(&self, event: &Event<'_>) -> Option<()> {
        let watched = lock(&self.0);
        let Some(all) = watched.get(&event.job) else { return Some(()) };
        match event.what {
            What::State(_) => all.iter().for_each(|news| news.add(event.version, None)),
            What::Progress { run, json, .. } => all.iter().for_each(|news| news.add(event.version, Some((run, json)))),
            What::Line(line) => {
                let line = read::log_line(line)?;
                all.iter().for_each(|news| news.add_line(&line));
            }
        }
        Some(())
    }

    /// The job has this version by now, and its log this newest line.
    pub(super) fn is_at(&self, id: Uuid, version: u64, newest_line: u64) {
        for news in lock(&self.0).get(&id).into_iter().flatten() {
            news.logged(newest_line);
            news.add(version, None);
        }
    }

    pub(super) fn ids(&self) -> Vec<JobId> {
        lock(&self.0).values().filter_map(|all| all.first().map(|news| news.id.clone())).collect()
    }
}

impl News {
    pub(super) fn of(id: &JobId) -> Self {
        Self { id: id.clone(), pending: Mutex::default(), arrived: Notify::new() }
    }

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
    pub(super) fn logged(&self, newest: u64) {
        let mut pending = lock(&self.pending);
        if newest > pending.logged {
            pending.logged = newest;
            pending.lines.clear();
            drop(pending);
            self.arrived.notify_one();
        }
    }
}
