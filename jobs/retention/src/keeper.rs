//! Deleting what is older than it is to be kept.

use std::time::{Duration, Instant, SystemTime};

use fourmi_blobs::{BlobError, Blobs, Uploads};
use fourmi_kinds::{JobKind, MaintenanceRetention, RetentionOutcome};
use fourmi_model::{AuditEvent, Outcome, RetentionClass};
use fourmi_queue::{QueueError, Queues};
use fourmi_records::{Added, OldJobs, OldSms, Records, RecordsError};
use fourmi_settings::Keep;
use jiff::{SignedDuration, Timestamp};
use tokio::time::sleep;
use uuid::Uuid;

use crate::in_use::files_in_use;

/// How long the platform's own chores stay in the records, whatever is said of other jobs: there are thousands a day.
const CHORES: SignedDuration = SignedDuration::from_hours(7 * 24);

/// How long it is known where a person was logged in: people come back to a place after a holiday.
const SESSIONS: SignedDuration = SignedDuration::from_hours(90 * 24);

/// How long links that are over are kept.
const TOKENS: SignedDuration = SignedDuration::from_hours(2 * 24);

/// How long it is known what became of text messages: as long as providers know it.
const MESSAGES: SignedDuration = SignedDuration::from_hours(180 * 24);

/// How long half a file lies alone before it is one.
const ORPHANS: SignedDuration = SignedDuration::from_hours(24);

/// FCM forgets devices that it has not seen for so long.
const DEVICES: SignedDuration = SignedDuration::from_hours(270 * 24);

/// How long it is known how far a message to many devices is: longer than its job can be tried again.
const BROADCASTS: SignedDuration = SignedDuration::from_hours(60 * 24);

/// Retention could not be carried through; what was deleted before stays deleted, and the rest is for the next time.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RetentionError {
    /// The records cannot be changed.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// The files cannot be deleted.
    #[error(transparent)]
    Blobs(#[from] BlobError),
    /// It is not known which files jobs need.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// Deletes what is older than it is to be kept; cheap to clone. Any number of processes may do so at once.
#[derive(Clone)]
pub struct Keeper {
    records: Records,
    blobs: Blobs,
    uploads: Uploads,
    queues: Queues,
    keep: Keep,
}

/// What is deleted, how far one is, and whether to go on.
struct Sweep<'a> {
    outcome: RetentionOutcome,
    dry_run: bool,
    goes_on: &'a mut (dyn FnMut(&RetentionOutcome) -> bool + Send),
}

impl Sweep<'_> {
    /// Adds what was deleted or held; whether to go on.
    fn note(&mut self, deleted: u64, bytes: Option<u64>, held: u64) -> bool {
        self.outcome.deleted += deleted;
        self.outcome.held += held;
        if let Some(bytes) = bytes {
            *self.outcome.bytes.get_or_insert(0) += bytes;
        }
        (self.goes_on)(&self.outcome)
    }
}

impl Keeper {
    /// Of what these hold.
    pub fn new(records: Records, blobs: Blobs, uploads: Uploads, queues: Queues, keep: Keep) -> Self {
        Self { records, blobs, uploads, queues, keep }
    }

    /// Deletes what of a class is older than the settings say, or than `days`; a dry run counts it. Between its steps it asks
    /// whether to go on, and ends if not.
    ///
    /// # Errors
    /// If something does not answer, or refuses.
    pub async fn run(
        &self,
        class: RetentionClass,
        days: Option<u32>,
        dry_run: bool,
        mut goes_on: impl FnMut(&RetentionOutcome) -> bool + Send,
    ) -> Result<RetentionOutcome, RetentionError> {
        let now = Timestamp::now();
        let kept = days.map_or_else(|| self.kept(class), |days| Some(of_days(days)));
        let before = kept.map(|kept| now.saturating_sub(kept).unwrap_or(Timestamp::MIN));
        let outcome = RetentionOutcome { class, before, deleted: 0, bytes: None, held: 0 };
        let mut sweep = Sweep { outcome, dry_run, goes_on: &mut goes_on };
        match (class, before) {
            (RetentionClass::Jobs, before) => self.jobs(before, now, &mut sweep).await?,
            (_, None) => {}
            (RetentionClass::Events, Some(before)) => self.events(before, &mut sweep).await?,
            (RetentionClass::Files, Some(before)) => self.files(before, &mut sweep).await?,
            (RetentionClass::Sessions, Some(before)) => self.sessions(before, &mut sweep).await?,
            (RetentionClass::Tokens, Some(before)) => self.tokens(before, &mut sweep).await?,
            (RetentionClass::Uploads, Some(_)) => self.uploads(days, &mut sweep).await?,
            (RetentionClass::Orphans, Some(before)) => self.orphans(before, &mut sweep).await?,
            (RetentionClass::Messages, Some(before)) => self.messages(before, &mut sweep).await?,
            (RetentionClass::Devices, Some(before)) => self.devices(before, now, &mut sweep).await?,
        }
        Ok(sweep.outcome)
    }

    /// How long a class is kept; `None` for ever.
    fn kept(&self, class: RetentionClass) -> Option<SignedDuration> {
        match class {
            RetentionClass::Jobs => self.keep.jobs_days.map(of_days),
            RetentionClass::Events => self.keep.events_days.map(of_days),
            RetentionClass::Files => self.keep.files_days.map(of_days),
            RetentionClass::Sessions => Some(SESSIONS),
            RetentionClass::Tokens => Some(TOKENS),
            RetentionClass::Uploads => SignedDuration::try_from(self.uploads.life()).ok(),
            RetentionClass::Orphans => Some(ORPHANS),
            RetentionClass::Devices => Some(DEVICES),
            RetentionClass::Messages => Some(MESSAGES),
        }
    }

    async fn jobs(
        &self,
        before: Option<Timestamp>,
        now: Timestamp,
        sweep: &mut Sweep<'_>,
    ) -> Result<(), RetentionError> {
        // Statistics outlive what they were counted from.
        while !sweep.dry_run && matches!(self.records.roll_up(now).await?, Added::Hour(_)) {
            if !sweep.note(0, None, 0) {
                return Ok(());
            }
        }
        let chores = |before| OldJobs { before, queue: MaintenanceRetention::QUEUE.parse().ok() };
        let all = before.map(|before| OldJobs { before, queue: None });
        if sweep.dry_run {
            let (mut number, held) = match &all {
                Some(all) => self.records.count_old_jobs(all).await?,
                None => (0, 0),
            };
            // Chores that are as old as that are counted already.
            let newer = self.records.count_old_jobs(&chores(now - CHORES)).await?.0;
            let counted = self.records.count_old_jobs(&chores(before.unwrap_or(Timestamp::MIN))).await?.0;
            number += newer.saturating_sub(counted);
            sweep.note(number.saturating_sub(held), None, held);
            return Ok(());
        }
        self.delete_jobs(&chores(now - CHORES), sweep).await?;
        if let Some(all) = all {
            self.delete_jobs(&all, sweep).await?;
            sweep.outcome.held = self.records.count_old_jobs(&all).await?.1;
        }
        Ok(())
    }

    /// Rests between two steps half as long as one takes: whoever submits jobs waits for the same disk.
    async fn delete_jobs(&self, old: &OldJobs, sweep: &mut Sweep<'_>) -> Result<(), RetentionError> {
        let mut next = None;
        loop {
            let begun = Instant::now();
            let step = self.records.delete_old_jobs(old, next.as_ref()).await?;
            sleep(begun.elapsed() / 2).await;
            next = step.next;
            if !sweep.note(step.deleted, None, 0) || next.is_none() {
                return Ok(());
            }
        }
    }

    async fn events(&self, before: Timestamp, sweep: &mut Sweep<'_>) -> Result<(), RetentionError> {
        if sweep.dry_run {
            sweep.note(self.records.count_old_events(before).await?, None, 0);
            return Ok(());
        }
        loop {
            let deleted = self.records.delete_old_events(before).await?;
            if !sweep.note(deleted, None, 0) || deleted == 0 {
                break;
            }
        }
        if sweep.outcome.deleted > 0 {
            self.records.add_audit(&[pruned(before, sweep.outcome.deleted)]).await?;
        }
        Ok(())
    }

    async fn files(&self, before: Timestamp, sweep: &mut Sweep<'_>) -> Result<(), RetentionError> {
        let in_use = files_in_use(&self.queues, &self.records).await?;
        for shard in self.blobs.shards().await? {
            for blob in self.blobs.in_shard(&shard).await? {
                if blob.growing || blob.created_at >= before {
                    continue;
                }
                let goes_on = if in_use.contains(&blob.id) {
                    sweep.note(0, None, 1)
                } else if sweep.dry_run || self.blobs.delete(&blob.id).await? {
                    sweep.note(1, Some(blob.bytes), 0)
                } else {
                    true
                };
                if !goes_on {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    async fn sessions(&self, before: Timestamp, sweep: &mut Sweep<'_>) -> Result<(), RetentionError> {
        if sweep.dry_run {
            sweep.note(self.records.count_old_sessions(before).await?, None, 0);
            return Ok(());
        }
        loop {
            let deleted = self.records.prune_sessions(before).await?;
            if !sweep.note(deleted, None, 0) || deleted == 0 {
                return Ok(());
            }
        }
    }

    /// What a job may still ask for stays: a message in doubt, and one whose job is in its queue, where it can be replayed.
    async fn messages(&self, before: Timestamp, sweep: &mut Sweep<'_>) -> Result<(), RetentionError> {
        let mut start = None;
        loop {
            let OldSms { jobs, in_doubt, next } = self.records.old_sms(before, start.as_ref()).await?;
            let are_there = self.queues.are_there(&jobs).await?;
            let old = jobs.len() as u64;
            let gone: Vec<_> =
                jobs.into_iter().zip(are_there).filter(|(_, is_there)| !is_there).map(|(job, _)| job).collect();
            let held = in_doubt + old - gone.len() as u64;
            let deleted = if sweep.dry_run { gone.len() as u64 } else { self.records.forget_sms(&gone).await? };
            start = next;
            if !sweep.note(deleted, None, held) || start.is_none() {
                return Ok(());
            }
        }
    }

    async fn tokens(&self, before: Timestamp, sweep: &mut Sweep<'_>) -> Result<(), RetentionError> {
        let number = if sweep.dry_run {
            self.records.count_old_one_times(before).await?
        } else {
            self.records.prune_one_times(before).await?
        };
        sweep.note(number, None, 0);
        Ok(())
    }

    async fn uploads(&self, days: Option<u32>, sweep: &mut Sweep<'_>) -> Result<(), RetentionError> {
        let life = days.map(|days| Duration::from_hours(u64::from(days) * 24));
        let uploads = life.map_or_else(|| self.uploads.clone(), |life| Uploads::of(&self.blobs, life));
        let number = if sweep.dry_run { uploads.expired().await? } else { uploads.sweep().await? };
        sweep.note(number as u64, None, 0);
        Ok(())
    }

    async fn orphans(&self, before: Timestamp, sweep: &mut Sweep<'_>) -> Result<(), RetentionError> {
        if !sweep.dry_run {
            let swept = self.blobs.sweep().await?;
            sweep.note(swept as u64, None, 0);
        }
        let before = SystemTime::from(before);
        for shard in self.blobs.shards().await? {
            let (number, bytes) = self.blobs.remove_orphans(&shard, before, sweep.dry_run).await?;
            if !sweep.note(number, Some(bytes), 0) {
                break;
            }
        }
        Ok(())
    }

    async fn devices(&self, before: Timestamp, now: Timestamp, sweep: &mut Sweep<'_>) -> Result<(), RetentionError> {
        if sweep.dry_run {
            sweep.note(self.records.count_old_devices(before).await?, None, 0);
            return Ok(());
        }
        self.records.prune_broadcasts(now - BROADCASTS).await?;
        loop {
            let deleted = self.records.prune_devices(before).await?;
            if !sweep.note(deleted, None, 0) || deleted == 0 {
                return Ok(());
            }
        }
    }
}

fn of_days(days: u32) -> SignedDuration {
    SignedDuration::from_hours(i64::from(days) * 24)
}

/// The log says that it does not go back further.
fn pruned(before: Timestamp, events: u64) -> AuditEvent {
    let details = [("before", before.to_string().into()), ("events", events.into())];
    AuditEvent {
        id: format!("event-{}", Uuid::now_v7().simple()),
        time: Timestamp::now(),
        actor: None,
        tenant: None,
        action: "audit.pruned".to_owned(),
        target: None,
        outcome: Outcome::Success,
        address: None,
        user_agent: None,
        request_id: None,
        details: details.map(|(name, value)| (name.to_owned(), value)).into_iter().collect(),
    }
}
