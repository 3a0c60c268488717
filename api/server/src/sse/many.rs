//! A stream of what happens to many jobs: those of a batch, or all that a caller sees and wants.
//!
//! It begins with a snapshot: of a batch the batch and its members, else the jobs that are not over, as far as they are few
//! enough. What happens from then on follows. Where something was missed, a `gap` says since when, and the snapshot comes
//! again, with the jobs that have ended meanwhile. The end of a batch is told after the ends of all its members.

use std::{
    collections::{BTreeSet, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use fourmi_model::{Job, JobId, QueueName, State};
use fourmi_queue::{Feed, FeedEvent, FeedUpdate, JobFilter, QueueError, Queues};
use futures_util::Stream;
use jiff::{SignedDuration, Timestamp};
use salvo::sse::SseEvent;
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::{
    Teller, unfold,
    vocabulary::{Far, Live, Missed, Told},
};
use crate::caller::Caller;

/// Jobs of each sort (not over; ended meanwhile) that a snapshot holds at most, unless it is of a batch.
const MOST: usize = 200;

/// Jobs that are read at once, and then held until the client has taken them.
const GROUP: usize = 32;

/// The pause after Redis did not answer.
const AGAIN: Duration = Duration::from_millis(500);

/// How far the clocks of this machine and of Redis's may be apart, and an event may have been on its way.
const SLACK: SignedDuration = SignedDuration::from_secs(5);

/// Snapshots that are looked for at a time: after an outage all streams want one.
static LOOKING: Semaphore = Semaphore::const_new(2);

/// The id of the last event of a batch that is over.
pub(crate) const OVER: &str = "over";

/// Which jobs a stream is of.
pub(crate) enum Scope {
    /// A batch and its members; of these, those that were not told to be over.
    Batch(JobId, BTreeSet<JobId>),
    /// Those in these queues that the filter wants.
    All(Vec<QueueName>, JobFilter),
}

impl Scope {
    /// Whether this is the batch, and it is over.
    fn is_end(&self, job: &Job) -> bool {
        matches!(self, Self::Batch(batch, _) if job.id == *batch && job.state.is_final())
    }
}

/// Many jobs that are followed.
pub(crate) struct ManyJobs {
    queues: Queues,
    caller: Caller,
    teller: Teller,
    feed: Feed,
    scope: Scope,
    phase: Phase,
    /// Members of a batch that the caller does not see.
    hidden: HashSet<Uuid>,
}

/// What comes next.
enum Phase {
    /// Looking for the jobs of a snapshot: those that are not over and, if there is a time, those that have ended since.
    Look(Option<Timestamp>),
    /// Giving a snapshot.
    Give(Snapshot),
    Tail,
    /// Giving the ends of members that were not given yet, and then that of their batch.
    Close(Arc<Job>),
    Over,
}

/// Jobs to be given.
struct Snapshot {
    /// When they were looked for.
    at: Timestamp,
    ids: VecDeque<JobId>,
    given: usize,
    more: bool,
    /// The batch, if it is over.
    end: Option<Arc<Job>>,
}

impl ManyJobs {
    /// Looks for the jobs of the first snapshot. `since` is until when the client has seen everything, if it says so.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub(crate) async fn open(
        queues: Queues,
        (caller, teller): (Caller, Teller),
        (feed, scope): (Feed, Scope),
        since: Option<Timestamp>,
    ) -> Result<Self, QueueError> {
        let (phase, hidden) = (Phase::Look(since), HashSet::new());
        let mut this = Self { queues, caller, teller, feed, scope, phase, hidden };
        this.phase = Phase::Give(this.look(since).await?);
        Ok(this)
    }

    /// What happens to them.
    pub(crate) fn events(mut self, since: Option<Timestamp>) -> impl Stream<Item = SseEvent> + Send + 'static {
        let opening = since.map(|since| self.teller.tell(&Told::Gap(Missed::while_away(since)), None));
        unfold((self, opening), |(mut this, opening)| async move {
            let events = match opening {
                Some(opening) => opening,
                None => this.next().await?,
            };
            Some((events, (this, None)))
        })
    }

    async fn next(&mut self) -> Option<Vec<SseEvent>> {
        match &self.phase {
            Phase::Over => None,
            Phase::Look(since) => {
                let since = *since;
                match self.look(since).await {
                    Ok(snapshot) => self.phase = Phase::Give(snapshot),
                    Err(_) => tokio::time::sleep(AGAIN).await,
                }
                Some(Vec::new())
            }
            Phase::Give(_) => Some(self.give().await),
            Phase::Close(_) => Some(self.close().await),
            Phase::Tail => {
                let event = self.feed.next().await;
                Some(self.tail(event).await)
            }
        }
    }

    async fn look(&self, since: Option<Timestamp>) -> Result<Snapshot, QueueError> {
        let at = Timestamp::now();
        // It is never closed.
        let _turn = LOOKING.acquire().await;
        let mut snapshot = Snapshot { at, ids: VecDeque::new(), given: 0, more: false, end: None };
        match &self.scope {
            Scope::Batch(batch, open) => {
                snapshot.ids.push_back(batch.clone());
                snapshot.ids.extend(open.iter().filter(|id| *id != batch).cloned());
            }
            Scope::All(queues, filter) => {
                let wanted = |state: &State| filter.states.is_empty() || filter.states.contains(state);
                let (over, live) = State::ALL.iter().filter(|state| wanted(state)).partition(|state| state.is_final());
                self.list(queues, JobFilter { states: live, ..filter.clone() }, &mut snapshot).await?;
                if let Some(since) = since {
                    let finished_after = since.checked_sub(SLACK).ok();
                    self.list(queues, JobFilter { states: over, finished_after, ..filter.clone() }, &mut snapshot)
                        .await?;
                }
            }
        }
        Ok(snapshot)
    }

    /// Adds the first jobs that a filter wants, which names their states.
    async fn list(&self, queues: &[QueueName], filter: JobFilter, snapshot: &mut Snapshot) -> Result<(), QueueError> {
        let mut room = MOST;
        for queue in queues.iter().filter(|_| !filter.states.is_empty()) {
            // With no room left, one job tells that there are more.
            let page = self.queues.list(queue, &filter, None, room.max(1)).await?;
            snapshot.more |= page.next.is_some() || page.jobs.len() > room;
            let before = snapshot.ids.len();
            snapshot.ids.extend(page.jobs.into_iter().take(room).map(|job| job.id));
            room -= snapshot.ids.len() - before;
        }
        Ok(())
    }

    /// Gives the next jobs of the snapshot, or its end.
    async fn give(&mut self) -> Vec<SseEvent> {
        let Phase::Give(snapshot) = &mut self.phase else { return Vec::new() };
        let count = snapshot.ids.len().min(GROUP);
        let group: Vec<JobId> = snapshot.ids.range(..count).cloned().collect();
        let Ok(jobs) = self.feed.read(&group).await else {
            tokio::time::sleep(AGAIN).await;
            return Vec::new();
        };
        snapshot.ids.drain(..count);
        let end = jobs.iter().find(|job| self.scope.is_end(job)).cloned();
        let mut events = Vec::new();
        let mut given = 0;
        for job in &jobs {
            if !self.scope.is_end(job) && self.sees(job) {
                given += 1;
                events.extend(self.teller.tell(&Told::Snapshot(self.caller.show(Job::clone(job))), None));
                self.note_end(job);
            }
        }
        let Phase::Give(snapshot) = &mut self.phase else { return events };
        snapshot.given += given;
        snapshot.end = snapshot.end.take().or(end);
        if snapshot.ids.is_empty() {
            let live = Live { jobs: snapshot.given, more: snapshot.more };
            let id = snapshot.at.as_millisecond().to_string();
            events.extend(self.teller.tell(&Told::Live(live), Some(id)));
            self.phase = snapshot.end.take().map_or(Phase::Tail, Phase::Close);
        }
        events
    }

    async fn tail(&mut self, FeedEvent { at, update }: FeedEvent) -> Vec<SseEvent> {
        let id = Some(at.as_millisecond().to_string());
        match update {
            FeedUpdate::Gap(gap) => {
                self.phase = Phase::Look(Some(gap.since));
                self.teller.tell(&Told::Gap(Missed::by(&gap)), None)
            }
            FeedUpdate::State(job) => {
                if self.scope.is_end(&job) {
                    self.phase = Phase::Close(job);
                    return Vec::new();
                }
                if !self.sees(&job) {
                    return Vec::new();
                }
                self.note_end(&job);
                self.teller.tell(&Told::State(self.caller.show(Job::clone(&job))), id)
            }
            FeedUpdate::Progress { id: job, .. } if self.hidden.contains(&job.uuid()) => Vec::new(),
            FeedUpdate::Progress { id: job, version, run, progress } => {
                let mut events = Vec::new();
                if self.teller.must_meet(&job)
                    && let Ok(jobs) = self.feed.read(std::slice::from_ref(&job)).await
                {
                    let told = jobs.iter().map(|job| Told::State(self.caller.show(Job::clone(job))));
                    told.for_each(|told| events.extend(self.teller.tell(&told, None)));
                }
                events.extend(self.teller.tell(&Told::Progress(Far { id: job, version, run, progress }), id));
                events
            }
        }
    }

    /// Gives the ends that are missing, and then that of the batch.
    async fn close(&mut self) -> Vec<SseEvent> {
        let (Phase::Close(end), Scope::Batch(batch, open)) = (&self.phase, &mut self.scope) else { return Vec::new() };
        open.remove(batch);
        let group: Vec<JobId> = open.iter().take(GROUP).cloned().collect();
        if group.is_empty() {
            let end = Told::State(self.caller.show(Job::clone(end)));
            self.phase = Phase::Over;
            return self.teller.tell(&end, Some(OVER.to_owned()));
        }
        let Ok(jobs) = self.feed.read(&group).await else {
            tokio::time::sleep(AGAIN).await;
            return Vec::new();
        };
        // What is gone, or was let run again, will have no end here.
        open.retain(|id| !group.contains(id));
        let mut events = Vec::new();
        for job in jobs {
            if self.sees(&job) {
                events.extend(self.teller.tell(&Told::State(self.caller.show(Job::clone(&job))), None));
            }
        }
        events
    }

    /// Whether the caller sees a job; what it does not is remembered, since progress does not say whose it is.
    fn sees(&mut self, job: &Job) -> bool {
        let sees = self.caller.sees_job(job);
        if !sees {
            self.hidden.insert(job.id.uuid());
        }
        sees
    }

    /// Notes whether a member is over.
    fn note_end(&mut self, job: &Job) {
        let Scope::Batch(_, open) = &mut self.scope else { return };
        if job.state.is_final() {
            open.remove(&job.id);
        } else {
            open.insert(job.id.clone());
        }
    }
}
