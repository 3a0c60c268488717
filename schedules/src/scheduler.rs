//! Makes the jobs of ticks that have come.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use fourmi_model::{FireOutcome, JobId, Overlap, ParentFailure, QueueName, ScheduleFire, Submission, TenantName};
use fourmi_queue::{Pushed, QueueError, Queues, Refusal};
use fourmi_records::{Firing, Records, RecordsError, Schedule, Standing};
use fourmi_retention::{Disks, goes_on_when_full};
use fourmi_timetable::{OrderForm, Ordered, Tick, Timetable};
use futures_util::future::try_join_all;
use jiff::Timestamp;
use tokio::time::{Instant, sleep};

use crate::{
    metrics::Metrics,
    overlap::{Deed, Earlier},
    plan::Plan,
};

/// Schedules that are dealt with together.
const BATCH: usize = 500;

/// How long a scheduler sleeps at most: a schedule that is made or changed meanwhile may be due earlier.
const NAP: Duration = Duration::from_secs(1);

/// How long a schedule that cannot be read, or whose kind's queue does not say when, waits for the next try.
const LATER: Duration = Duration::from_secs(60);

/// How long ticks wait for the next try that found no room on the disk.
const HELD: Duration = Duration::from_secs(5);

/// How often ticks are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(3_600);

/// Ticks of a schedule that are remembered.
const REMEMBERED: u32 = 1_000;

/// Ticks that one statement forgets.
const FORGOTTEN: u32 = 5_000;

/// Why a step did not come to its end. What it had done stays done, and doing it again changes nothing.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The records do not answer.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// Redis does not answer.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// Makes the jobs of schedules, beside as many others as there are.
pub struct Scheduler {
    records: Records,
    queues: Queues,
    disks: Disks,
    /// Whether one of the disks was full at the last look.
    was_full: AtomicBool,
    metrics: Metrics,
}

/// A tick that is to make a job.
struct Making {
    /// The place of its schedule in the batch.
    schedule: usize,
    tick: Timestamp,
    due_at: Timestamp,
    id: JobId,
    submission: Submission,
}

/// Where a schedule stands.
struct Stand {
    timetable: Timetable,
    form: OrderForm,
    /// The ticks that are to make a job.
    ticks: Vec<Timestamp>,
    firing: Firing,
}

impl Stand {
    fn skip_all(self, why: &str, now: Timestamp) -> Firing {
        let Self { ticks, mut firing, .. } = self;
        firing.fires.extend(ticks.into_iter().map(|tick| fire(tick, FireOutcome::Skipped, now, Some(why.to_owned()))));
        firing
    }

    /// Lets all ticks wait, also those that were missed: nothing has become of them yet.
    fn hold(self, now: Timestamp) -> Firing {
        let Self { mut firing, .. } = self;
        firing.then.next_tick = Some(firing.tick);
        firing.then.due_at = now.checked_add(HELD).ok();
        firing.fires.clear();
        firing
    }
}

impl Scheduler {
    /// A scheduler over these records and queues, which makes nothing but chores while one of the disks is full.
    pub fn new(records: Records, queues: Queues, disks: Disks) -> Self {
        Self { records, queues, disks, was_full: AtomicBool::new(false), metrics: Metrics::default() }
    }

    /// What it counts.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Makes jobs for ever.
    pub async fn run(&self) {
        let mut failing = false;
        let mut forgotten: Option<Instant> = None;
        loop {
            let pause = match self.step().await {
                Ok(pause) => {
                    if std::mem::take(&mut failing) {
                        tracing::info!("schedules are on again");
                    }
                    pause
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "schedules wait; trying again until it works");
                    }
                    NAP
                }
            };
            if !failing && forgotten.is_none_or(|at| at.elapsed() > FORGET_EVERY) {
                forgotten = Some(Instant::now());
                self.forget().await;
            }
            sleep(pause).await;
        }
    }

    /// Makes the jobs that are due now; gives how long nothing more is due, a second at most.
    ///
    /// # Errors
    /// If Redis or the records do not answer.
    pub async fn step(&self) -> Result<Duration, StepError> {
        let now = self.queues.time().await?;
        let due = self.records.due_schedules(now, BATCH).await?;
        if due.is_empty() {
            let next = self.records.next_schedule_due().await?;
            let wait = next.map_or(NAP, |next| Duration::try_from(next.duration_since(now)).unwrap_or_default());
            return Ok(wait.min(NAP));
        }
        let suspended = self.records.suspended_tenants().await?;
        let firings = self.fire(&due, &suspended, now).await?;
        let moved = self.records.schedules_fired(&firings).await?;
        for (firing, moved) in firings.iter().zip(moved) {
            // What another was faster with, that one counts.
            if moved {
                firing.fires.iter().for_each(|fire| self.metrics.tick(fire.outcome));
            }
        }
        Ok(Duration::ZERO)
    }

    async fn forget(&self) {
        loop {
            match self.records.forget_fires(REMEMBERED, FORGOTTEN).await {
                Ok(forgotten) if forgotten >= FORGOTTEN.into() => {}
                Ok(_) => return,
                Err(error) => return tracing::warn!(%error, "old ticks cannot be forgotten; trying again in an hour"),
            }
        }
    }

    /// Deals with the ticks of these schedules that have come.
    async fn fire(&self, due: &[Schedule], suspended: &[TenantName], now: Timestamp) -> Result<Vec<Firing>, StepError> {
        let earlier = try_join_all(due.iter().map(|schedule| self.earlier(schedule))).await?;
        let has_room = self.has_room().await;
        let (mut firings, mut making) = (Vec::new(), Vec::new());
        for (place, (schedule, earlier)) in due.iter().zip(earlier).enumerate() {
            let is_suspended = schedule.tenant.as_ref().is_some_and(|tenant| suspended.contains(tenant));
            let (firing, made) = match Self::stand(schedule, now) {
                Ok(stand) if is_suspended => (stand.skip_all("the tenant is suspended", now), Vec::new()),
                Ok(stand) if !has_room && !goes_on_when_full(schedule.job.kind.as_str()) => {
                    (stand.hold(now), Vec::new())
                }
                Ok(stand) => self.decide(place, schedule, stand, earlier, now).await?,
                Err(firing) => (*firing, Vec::new()),
            };
            firings.push(firing);
            making.extend(made);
        }
        let answers = self.push(&making).await?;
        for (making, answer) in making.into_iter().zip(answers) {
            if answer.as_ref().is_ok_and(|pushed| !pushed.existing()) {
                self.metrics.made(making.due_at, now);
            }
            note(&mut firings[making.schedule], &making, answer, now);
        }
        Ok(firings)
    }

    /// Whether there is room on the disks for new jobs.
    async fn has_room(&self) -> bool {
        let are_full = self.disks.are_full().await;
        match (self.was_full.swap(are_full, Ordering::Relaxed), are_full) {
            (false, true) => tracing::warn!("a disk is full: ticks wait until there is room"),
            (true, false) => tracing::info!("there is room on the disks again: ticks make jobs"),
            _ => {}
        }
        !are_full
    }

    /// How far the newest job of a schedule is, if it matters.
    async fn earlier(&self, schedule: &Schedule) -> Result<Earlier, StepError> {
        let (Some(job), false) = (&schedule.standing.last_job, schedule.overlap == Overlap::Allow) else {
            return Ok(Earlier::Over);
        };
        let state = self.queues.get(job).await?.map(|job| job.state);
        Ok(Earlier::of(job.clone(), state))
    }

    /// Where a schedule stands and what has come of it, if it can be read.
    fn stand(schedule: &Schedule, now: Timestamp) -> Result<Stand, Box<Firing>> {
        let tick = schedule.standing.next_tick.unwrap_or(now);
        let mut firing = Firing {
            id: schedule.id.clone(),
            version: schedule.version,
            tick,
            then: Standing::default(),
            fires: Vec::new(),
        };
        let read = Timetable::read(&schedule.rule, schedule.created_at).map_err(|error| error.to_string());
        let form = serde_json::from_str::<OrderForm>(&schedule.order_form).map_err(|error| error.to_string());
        match read.and_then(|timetable| Ok((timetable, form?))) {
            Ok((timetable, form)) => {
                let plan = Plan::of(schedule, &timetable, tick, now);
                firing.then.next_tick = plan.next;
                firing.then.due_at = plan.next.map(|next| timetable.due_at(&schedule.id, next));
                firing.fires.extend(plan.missed.into_iter().map(|tick| fire(tick, FireOutcome::Missed, now, None)));
                Ok(Stand { timetable, form, ticks: plan.fire, firing })
            }
            Err(error) => {
                tracing::error!(schedule = %schedule.id, error, "a schedule cannot be read; it is tried again later");
                firing.then.next_tick = Some(tick);
                firing.then.due_at = now.checked_add(LATER).ok();
                firing.fires.push(fire(tick, FireOutcome::Refused, now, Some(error)));
                Err(Box::new(firing))
            }
        }
    }

    /// What is done about a schedule, and the jobs that it makes.
    async fn decide(
        &self,
        place: usize,
        schedule: &Schedule,
        stand: Stand,
        mut earlier: Earlier,
        now: Timestamp,
    ) -> Result<(Firing, Vec<Making>), StepError> {
        let Stand { timetable, form, ticks, mut firing } = stand;
        let mut window_start = schedule.standing.last_fired_at;
        let mut made: Vec<Making> = Vec::new();
        let newest = ticks.last().copied();
        for tick in ticks {
            // Of those that come together, all but the newest would be cancelled at once.
            let is_old = schedule.overlap == Overlap::CancelOld && Some(tick) != newest;
            let deed = if is_old { Deed::Skip } else { earlier.deed(schedule.overlap) };
            if deed == Deed::Skip {
                firing.fires.push(fire(tick, FireOutcome::Skipped, now, None));
                continue;
            }
            let told = Tick { at: tick, window_start: window_start.unwrap_or(tick), zone: timetable.zone().clone() };
            let ordered = Ordered { id: &schedule.id, name: &schedule.name, job: &schedule.job, tick: &told };
            let (id, mut submission) = match form.order(ordered) {
                Ok(ordered) => ordered,
                Err(error) => {
                    firing.fires.push(fire(tick, FireOutcome::Refused, now, Some(error)));
                    continue;
                }
            };
            match deed {
                Deed::MakeAfter(job) => {
                    submission.envelope.after = vec![job];
                    submission.envelope.on_parent_failure = ParentFailure::Run;
                }
                Deed::CancelAndMake(job) => {
                    self.queues.cancel(&job).await?;
                }
                Deed::Make | Deed::Skip => {}
            }
            earlier = Earlier::Waits(id.clone());
            window_start = Some(tick);
            let due_at = timetable.due_at(&schedule.id, tick);
            made.push(Making { schedule: place, tick, due_at, id, submission });
        }
        Ok((firing, made))
    }

    /// Puts jobs into their queues; what became of each, in order.
    async fn push(&self, making: &[Making]) -> Result<Vec<Result<Pushed, Refusal>>, StepError> {
        let mut by_queue: BTreeMap<&QueueName, Vec<usize>> = BTreeMap::new();
        for (place, made) in making.iter().enumerate() {
            by_queue.entry(made.id.queue()).or_default().push(place);
        }
        let mut answers: Vec<Option<Result<Pushed, Refusal>>> = vec![None; making.len()];
        for (queue, places) in by_queue {
            let jobs: Vec<_> =
                places.iter().map(|&place| (making[place].id.clone(), making[place].submission.clone())).collect();
            let pushed = self.queues.push_many(queue, &jobs).await?;
            for (place, answer) in places.into_iter().zip(pushed) {
                answers[place] = Some(answer);
            }
        }
        Ok(answers.into_iter().flatten().collect())
    }
}

/// Notes what became of the job of a tick.
fn note(firing: &mut Firing, making: &Making, answer: Result<Pushed, Refusal>, now: Timestamp) {
    let job = match answer {
        Ok(pushed) => pushed.id,
        // Made for this tick before the schedule was changed, or by a process that read it as it was then.
        Err(Refusal::IdempotencyConflict(job)) => job,
        Err(Refusal::QueueFull { retry_after }) => {
            // It stays at the first tick that found no room.
            let stays = firing.then.next_tick.is_none_or(|next| next > making.tick);
            if stays {
                firing.then.next_tick = Some(making.tick);
                firing.then.due_at = now.checked_add(retry_after.max(NAP)).ok();
            }
            tracing::warn!(schedule = %firing.id, "the queue has no room for the job of a tick; trying again");
            return;
        }
        Err(refusal) => {
            let error = Some(refusal.to_string());
            firing.fires.push(fire(making.tick, FireOutcome::Refused, now, error));
            return;
        }
    };
    firing.then.last_fired_at = firing.then.last_fired_at.max(Some(making.tick));
    firing.then.last_job = Some(job.clone());
    firing.fires.push(ScheduleFire { job: Some(job), ..fire(making.tick, FireOutcome::Fired, now, None) });
}

fn fire(tick: Timestamp, outcome: FireOutcome, now: Timestamp, error: Option<String>) -> ScheduleFire {
    ScheduleFire { tick, by_hand: false, outcome, at: now, job: None, error }
}
