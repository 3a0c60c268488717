//! The logs of jobs on their way to Redis: in batches, at a bounded rate, and before the outcome of their run.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use fourmi_model::{LogEntry, LogLevel, MAX_LOG_LINES};
use tokio::{
    sync::{Mutex as Turn, Notify},
    time::sleep,
};

use super::{Shared, lock};
use crate::{QueueError, Run};

/// Lines go out this often at most.
const SEND_EVERY: Duration = Duration::from_millis(100);

/// What a run may write: so many lines a second, and so many at once after a silence. More is left out, and that is said.
const LINES_A_SECOND: f64 = 100.0;
const BURST: f64 = 200.0;

/// The logs of the runs of this process.
#[derive(Default)]
pub(crate) struct Logs {
    runs: Mutex<HashMap<Run, RunLog>>,
    /// There are lines to send.
    arrived: Notify,
    /// Whose turn it is to send: lines must not overtake one another, nor an outcome the lines before it.
    turn: Turn<()>,
}

/// What a run has said and was not sent yet.
struct RunLog {
    entries: VecDeque<LogEntry>,
    left_out: u64,
    /// Lines that it may write now.
    allowance: f64,
    since: Instant,
}

impl RunLog {
    fn new(now: Instant) -> Self {
        Self { entries: VecDeque::new(), left_out: 0, allowance: BURST, since: now }
    }

    fn add(&mut self, entry: LogEntry, now: Instant) {
        let earned = now.saturating_duration_since(self.since).as_secs_f64() * LINES_A_SECOND;
        self.allowance = (self.allowance + earned).min(BURST);
        self.since = now;
        // While Redis is away, lines pile up: no more than a log keeps.
        if self.allowance < 1.0 || self.entries.len() >= MAX_LOG_LINES {
            self.left_out += 1;
            return;
        }
        self.allowance -= 1.0;
        self.say_left_out();
        self.entries.push_back(entry);
    }

    fn say_left_out(&mut self) {
        if self.left_out > 0 {
            let text = format!("{} lines were left out: they came too fast", std::mem::take(&mut self.left_out));
            self.entries.push_back(LogEntry::new(LogLevel::Warn, &text));
        }
    }

    fn take(&mut self) -> Vec<LogEntry> {
        self.say_left_out();
        self.entries.drain(..).collect()
    }
}

impl Logs {
    pub(super) fn add(&self, run: Run, entry: LogEntry) {
        let now = Instant::now();
        lock(&self.runs).entry(run).or_insert_with(|| RunLog::new(now)).add(entry, now);
        self.arrived.notify_one();
    }

    pub(super) fn left_out(&self, run: Run, lines: u64) {
        lock(&self.runs).entry(run).or_insert_with(|| RunLog::new(Instant::now())).left_out += lines;
        self.arrived.notify_one();
    }

    /// Forgets a run that is over.
    pub(super) fn forget(&self, run: Run) {
        lock(&self.runs).remove(&run);
    }

    fn take(&self) -> Vec<(Run, Vec<LogEntry>)> {
        let mut runs = lock(&self.runs);
        let taken = runs.iter_mut().map(|(run, log)| (*run, log.take()));
        taken.filter(|(_, entries)| !entries.is_empty()).collect()
    }

    /// Puts back what could not be sent, before what has come since.
    fn put_back(&self, news: Vec<(Run, Vec<LogEntry>)>) {
        let mut runs = lock(&self.runs);
        for (run, entries) in news {
            let Some(log) = runs.get_mut(&run) else { continue };
            entries.into_iter().rev().for_each(|entry| log.entries.push_front(entry));
        }
    }
}

/// Sends lines as they come, but not too often.
pub(super) async fn report(shared: Arc<Shared>) {
    loop {
        shared.logs.arrived.notified().await;
        if let Err(error) = send(&shared).await {
            tracing::debug!(queue = %shared.queue(), %error, "lines of logs wait until Redis takes them");
            shared.logs.arrived.notify_one();
        }
        sleep(SEND_EVERY).await;
    }
}

/// Sends all lines that are there. Where nobody logs this does nothing.
///
/// # Errors
/// If Redis does not answer; then they wait for the next time, and some may be written twice. What Redis refuses, because
/// it is full, is dropped.
pub(super) async fn send(shared: &Shared) -> Result<(), QueueError> {
    let _turn = shared.logs.turn.lock().await;
    let news = shared.logs.take();
    if news.is_empty() {
        return Ok(());
    }
    match shared.transitions.log(&news).await {
        Err(error @ QueueError::Unavailable(_)) => {
            shared.logs.put_back(news);
            Err(error)
        }
        Err(error) => {
            tracing::debug!(queue = %shared.queue(), %error, "lines of logs were refused");
            Ok(())
        }
        Ok(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(log: &mut RunLog) -> Vec<String> {
        log.take().iter().map(|entry| entry.text().to_owned()).collect()
    }

    #[test]
    fn lines_that_come_too_fast_are_counted_where_they_are_missing() {
        let start = Instant::now();
        let mut log = RunLog::new(start);
        for n in 0..1_000 {
            log.add(LogEntry::new(LogLevel::Info, &n.to_string()), start);
        }
        let said = texts(&mut log);
        assert_eq!((said.len(), said[199].as_str()), (201, "199"));
        assert!(said[200].starts_with("800 lines were left out"), "{said:?}");

        for n in 0..200 {
            log.add(LogEntry::new(LogLevel::Info, &n.to_string()), start + Duration::from_secs(1));
        }
        log.add(LogEntry::new(LogLevel::Info, "later"), start + Duration::from_secs(2));
        let said = texts(&mut log);
        assert_eq!(said.len(), 102);
        assert!(said[100].starts_with("100 lines were left out"), "{said:?}");
        assert_eq!(said[101], "later");
    }
}
