//! What one feed has not given out yet: bounded, whatever happens, and honest about what is lost by that.

use std::sync::Arc;

use fourmi_model::{Job, JobId, Progress};
use jiff::Timestamp;

use super::{Gap, GapReason, line::Line};

/// Jobs that have news and wait for a slow reader, at most.
const JOBS: usize = 1_000;

/// Documents that wait, at most; those of jobs further behind are read again when their turn comes.
const DOCUMENTS: usize = 64;

/// Progress of a run, with the version that the job has by it.
#[derive(Debug, Clone)]
pub(super) struct Far {
    pub(super) version: u64,
    pub(super) run: u64,
    pub(super) progress: Arc<Progress>,
}

/// The news of one job.
#[derive(Debug)]
pub(super) struct Entry {
    /// When the oldest of it arrived.
    pub(super) arrived: Timestamp,
    /// Another state, and whether it is the last one.
    pub(super) state: Option<News>,
    /// Progress that is newer than that.
    pub(super) progress: Option<Far>,
}

/// Another state of a job.
#[derive(Debug)]
pub(super) struct News {
    is_final: bool,
    /// The job, unless it must be read again.
    pub(super) document: Option<Arc<Job>>,
}

impl Entry {
    fn has_document(&self) -> bool {
        self.state.as_ref().is_some_and(|news| news.document.is_some())
    }
}

/// The news of all jobs of a feed.
#[derive(Default)]
pub(super) struct Pending {
    line: Line<Entry>,
    documents: usize,
    gap: Option<Gap>,
}

impl Pending {
    /// A job is as this document says.
    pub(super) fn add_state(&mut self, job: &Arc<Job>, arrived: Timestamp) {
        let is_final = job.state.is_final();
        match self.line.get_mut(job.id.uuid()) {
            Some(entry) => {
                // The document has the newest progress too.
                let replaced = entry.has_document();
                entry.progress = None;
                let document = (replaced || self.documents < DOCUMENTS).then(|| job.clone());
                self.documents += usize::from(document.is_some() && !replaced);
                entry.state = Some(News { is_final, document });
            }
            None => {
                if !self.make_room(is_final, arrived) {
                    return;
                }
                let document = (self.documents < DOCUMENTS).then(|| job.clone());
                self.documents += usize::from(document.is_some());
                let state = Some(News { is_final, document });
                self.line.push(job.id.clone(), Entry { arrived, state, progress: None });
            }
        }
    }

    /// A job has come further.
    pub(super) fn add_progress(&mut self, id: &JobId, far: Far, arrived: Timestamp) {
        if let Some(entry) = self.line.get_mut(id.uuid()) {
            entry.progress = Some(far);
        } else if self.line.len() < JOBS {
            self.line.push(id.clone(), Entry { arrived, state: None, progress: Some(far) });
        }
        // Where there is no room: progress may be left out at all times.
    }

    /// Lets go of what a reader can do without best: progress, then states that others will follow.
    fn make_room(&mut self, for_the_end: bool, arrived: Timestamp) -> bool {
        if self.line.len() < JOBS || self.line.remove_first(|entry| entry.state.is_none()).is_some() {
            return true;
        }
        let passing = |entry: &Entry| entry.state.as_ref().is_some_and(|news| !news.is_final);
        let lost = if for_the_end { self.line.remove_first(passing) } else { None };
        self.documents -= usize::from(lost.as_ref().is_some_and(Entry::has_document));
        let since = lost.as_ref().map_or(arrived, |entry| entry.arrived);
        self.add_gap(Gap { since, missed: Some(1), reason: GapReason::SlowReader });
        lost.is_some()
    }

    /// Something was missed.
    pub(super) fn add_gap(&mut self, gap: Gap) {
        self.gap = Some(match self.gap.take() {
            None => gap,
            Some(earlier) => Gap {
                since: earlier.since.min(gap.since),
                missed: earlier.missed.zip(gap.missed).map(|(one, other)| one + other),
                // What nobody can count says more.
                reason: if gap.missed.is_none() { gap.reason } else { earlier.reason },
            },
        });
    }

    pub(super) fn take_gap(&mut self) -> Option<Gap> {
        self.gap.take()
    }

    pub(super) fn take(&mut self) -> Option<(JobId, Entry)> {
        let (id, entry) = self.line.pop()?;
        self.documents -= usize::from(entry.has_document());
        Some((id, entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(n: u128, state: &str, version: u64) -> Arc<Job> {
        let id = JobId::from_parts("media".parse().unwrap(), uuid::Uuid::from_u128(n));
        Arc::new(super::super::tests::job(&id, state, version))
    }

    fn far(version: u64) -> Far {
        Far { version, run: 1, progress: Arc::default() }
    }

    #[test]
    fn newer_news_of_a_job_takes_the_place_of_older() {
        let mut pending = Pending::default();
        let at = Timestamp::UNIX_EPOCH;
        pending.add_progress(&job(1, "running", 0).id, far(2), at);
        pending.add_state(&job(1, "running", 3), at);
        pending.add_progress(&job(1, "running", 0).id, far(4), at);
        pending.add_state(&job(2, "succeeded", 3), at);
        let (id, entry) = pending.take().unwrap();
        assert_eq!((id.uuid().as_u128(), entry.progress.unwrap().version), (1, 4));
        assert_eq!(entry.state.unwrap().document.unwrap().version, 3);
        assert!(pending.take().is_some() && pending.take().is_none() && pending.take_gap().is_none());
        assert_eq!(pending.documents, 0);
    }

    #[test]
    fn a_stalled_reader_loses_progress_first_then_passing_states_and_is_told() {
        let mut pending = Pending::default();
        let at = |n: i64| Timestamp::from_second(n).unwrap();
        pending.add_progress(&job(5_000, "running", 0).id, far(1), at(0));
        for n in 1..=JOBS as u128 {
            pending.add_state(&job(n, if n <= 10 { "running" } else { "succeeded" }, 2), at(n as i64));
        }
        assert!(pending.gap.is_none(), "only progress was lost");
        for n in 2_001..=2_010 {
            pending.add_state(&job(n, "failed", 2), at(3_000));
        }
        let reason = GapReason::SlowReader;
        assert_eq!(pending.take_gap(), Some(Gap { since: at(1), missed: Some(10), reason }));
        pending.add_state(&job(3_000, "failed", 2), at(4_000));
        pending.add_state(&job(3_001, "running", 2), at(5_000));
        assert_eq!(pending.take_gap(), Some(Gap { since: at(4_000), missed: Some(2), reason }));
        let mut documents = 0;
        for _ in 0..JOBS {
            documents += usize::from(pending.take().unwrap().1.has_document());
        }
        // Ten of the documents went with the states that were let go.
        assert!(pending.take().is_none() && documents <= DOCUMENTS && pending.documents == 0, "{documents}");
    }
}
