//! Running jobs: the storage of an apalis worker.
//!
//! Three loops of their own, each of which outlives a restart of Redis: [`fetch`] brings jobs for free slots,
//! [`settle`] writes outcomes and progress ([`log`] the lines that runs write), [`leases`] renews what is held, takes back what others lost and forgets
//! what is old. A fourth, [`beat`], says what this process does, and hears what it shall do. The worker meets them in `poll_ready` (is a slot free?), `poll_next` (the next delivery) and
//! `poll_close` (everything is written).

mod beat;
mod fetch;
mod layer;
mod leases;
mod log;
mod settle;

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use apalis_core::{
    backend::{Backend, BackendConfig, finalize::Ephemeral},
    task::{Task, task_id::TaskId},
    worker::context::WorkerContext,
};
use fourmi_model::{Envelope, JobId, KindName, LogEntry, Progress, QueueName};
use futures_util::{FutureExt, task::AtomicWaker};
use tokio::{
    sync::{Notify, mpsc},
    task::{AbortHandle, JoinHandle},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{Outcome, QueueError, Queues, Relay, Run, Settlement, Transitions};
pub use layer::SettleLayer;

/// How a worker process takes part in a queue.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// The name of the process, without blanks; unique among those that live.
    pub worker: String,
    /// Jobs that run at the same time, unless the queue says otherwise.
    pub slots: usize,
    /// The kinds that it can run, each with the newest version of the payload's schema that it reads: to be told to others.
    pub kinds: BTreeMap<KindName, u32>,
    /// Jobs fetched ahead: 0 for long ones, so that none sits behind another while a second worker idles.
    pub prefetch: usize,
    /// How long a run is ours without renewal. It is renewed three times as often.
    pub lease: Duration,
    /// The pause after which an idle worker looks even if nothing woke it.
    pub poll: Duration,
    /// Finished jobs kept at most: succeeded and cancelled ones, failed ones.
    pub kept: (u64, u64),
}

impl WorkerConfig {
    /// Defaults for a process called `worker` with as many slots as there are processors.
    pub fn new(worker: impl Into<String>) -> Self {
        Self {
            worker: worker.into(),
            slots: std::thread::available_parallelism().map_or(1, usize::from),
            kinds: BTreeMap::new(),
            prefetch: 0,
            lease: Duration::from_secs(15),
            poll: Duration::from_secs(2),
            kept: (100_000, 100_000),
        }
    }
}

/// One run of one job, handed to this process.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The job.
    pub id: JobId,
    /// The number of this run: the fencing token.
    pub run: u64,
    /// Runs that count against the retry budget, this one included.
    pub attempts: u32,
    /// Earlier runs that took their process down.
    pub crashes: u32,
    /// How long it has waited since it could run: since it was accepted, was due, or what it waited for was there.
    pub waited: Duration,
    /// The part of the job that never changes.
    pub envelope: Arc<Envelope>,
    /// Fires when the run must stop.
    pub stop: StopSignal,
}

impl Delivery {
    fn key(&self) -> Run {
        Run { job: self.id.uuid(), number: self.run }
    }
}

/// Tells a run to stop, and why; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct StopSignal {
    token: CancellationToken,
    reason: Arc<OnceLock<Stop>>,
}

/// Why a run must stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// A caller cancelled the job.
    Cancelled,
    /// The lease was lost: somebody else may be running the job, and this run's outcome will be refused.
    LeaseLost,
    /// The process is going away; the job goes back to its queue.
    Draining,
}

impl StopSignal {
    /// Stops the run; the first reason counts.
    pub fn fire(&self, reason: Stop) {
        let _ = self.reason.set(reason);
        self.token.cancel();
    }

    /// Why the run must stop, if it must.
    pub fn reason(&self) -> Option<Stop> {
        self.reason.get().copied().filter(|_| self.token.is_cancelled())
    }

    /// Waits until the run must stop.
    pub async fn fired(&self) -> Stop {
        self.token.cancelled().await;
        self.reason.get().copied().unwrap_or(Stop::Draining)
    }
}

/// The storage of one apalis worker: one process's part in one queue.
#[derive(Debug)]
pub struct QueueBackend {
    config: WorkerConfig,
    shared: Arc<Shared>,
    deliveries: mpsc::Receiver<Delivery>,
    settling: Option<JoinHandle<()>>,
    beating: Option<JoinHandle<()>>,
    others: Vec<AbortHandle>,
}

/// What the loops, the backend and its handles share.
pub(crate) struct Shared {
    pub(crate) transitions: Transitions,
    pub(crate) worker: String,
    pub(crate) lease: Duration,
    pub(crate) prefetch: usize,
    /// Slots that this process has by itself, and those that it has now.
    own_slots: AtomicUsize,
    slots: AtomicUsize,
    /// Runs that handlers work on; fewer than `held` while some wait for a slot or are being settled.
    busy: AtomicUsize,
    /// A slot is free or there are more of them.
    freed: AtomicWaker,
    /// Runs that are ours until they are settled, by job.
    held: Mutex<HashMap<Uuid, Held>>,
    /// Something about `held` or the slots has changed.
    pub(crate) changed: Notify,
    /// There may be something to fetch.
    pub(crate) wake: Notify,
    /// There is something to say or to hear before the next beat is due.
    pub(crate) beat_now: Notify,
    /// Fires when this process was told to drain.
    pub(crate) told_to_drain: CancellationToken,
    /// Fires when nothing more is to be fetched.
    pub(crate) draining: CancellationToken,
    /// Fires when everything that was fetched has been handed out or given back.
    pub(crate) handed_out: CancellationToken,
    /// Fires when nothing is held any more after a drain, and every outcome is written.
    pub(crate) settled: CancellationToken,
    settlements: mpsc::UnboundedSender<Settlement>,
    progress: Mutex<HashMap<Run, String>>,
    /// There is progress to send.
    pub(crate) progressed: Notify,
    /// Others may be waiting to hear what became of a job.
    pub(crate) telling: Notify,
    pub(crate) logs: log::Logs,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("queue", self.queue()).field("worker", &self.worker).finish_non_exhaustive()
    }
}

pub(crate) struct Held {
    pub(crate) number: u64,
    pub(crate) alone: bool,
    pub(crate) stop: StopSignal,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn queue(&self) -> &QueueName {
        self.transitions.queue()
    }

    /// Jobs that may be fetched now.
    pub(crate) fn room(&self) -> usize {
        let held = lock(&self.held);
        if self.draining.is_cancelled() || held.values().any(|held| held.alone) {
            return 0;
        }
        match self.slots.load(SeqCst) {
            // What is fetched ahead would wait for a slot that does not come.
            0 => 0,
            slots => (slots + self.prefetch).saturating_sub(held.len()),
        }
    }

    /// Sets how many jobs may run at the same time; running ones are not touched.
    fn give_slots(&self, slots: usize) {
        if self.slots.swap(slots, SeqCst) != slots {
            self.freed.wake();
            self.changed.notify_one();
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        lock(&self.held).is_empty()
    }

    /// Notes that a run is ours. If an older one of the same job still goes on here, its lease was lost.
    pub(crate) fn hold(&self, run: Run, held: Held) {
        if let Some(older) = lock(&self.held).insert(run.job, held) {
            older.stop.fire(Stop::LeaseLost);
        }
    }

    /// Forgets a run, unless a newer one of the same job is held.
    pub(crate) fn let_go(&self, run: Run) {
        let mut held = lock(&self.held);
        if held.get(&run.job).is_some_and(|held| held.number == run.number) {
            held.remove(&run.job);
        }
        drop(held);
        self.logs.forget(run);
    }

    pub(crate) fn held_runs(&self) -> Vec<Run> {
        lock(&self.held).iter().map(|(job, held)| Run { job: *job, number: held.number }).collect()
    }

    pub(crate) fn stop_run(&self, run: Run, reason: Stop) {
        if let Some(held) = lock(&self.held).get(&run.job).filter(|held| held.number == run.number) {
            held.stop.fire(reason);
        }
    }

    /// Writes an outcome as soon as Redis takes it; the run stays ours until then.
    pub(crate) fn settle(&self, run: Run, outcome: Outcome) {
        // The receiver lives as long as the backend; after its end the lease runs out and the job goes back.
        let _ = self.settlements.send(Settlement { run, outcome });
    }

    pub(crate) fn take_progress(&self) -> Vec<(Run, String)> {
        lock(&self.progress).drain().collect()
    }

    /// Does something to the log of a run that is ours: what belongs to no such run would never be forgotten.
    fn while_held(&self, run: Run, act: impl FnOnce(&log::Logs, Run)) {
        let held = lock(&self.held);
        if held.get(&run.job).is_some_and(|held| held.number == run.number) {
            act(&self.logs, run);
        }
    }

    fn start_one(&self) {
        self.busy.fetch_add(1, SeqCst);
    }

    fn finish_one(&self) {
        self.busy.fetch_sub(1, SeqCst);
        self.freed.wake();
    }
}

/// What a worker process may do and does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Jobs that may run at the same time.
    pub slots: usize,
    /// Jobs that run.
    pub busy: usize,
    /// Runs that are ours: waiting for a slot, running, or being settled.
    pub held: usize,
}

/// Steers a backend from outside the worker that polls it; cheap to clone.
#[derive(Debug, Clone)]
pub struct BackendHandle(Arc<Shared>);

impl BackendHandle {
    /// Fetches no more jobs; the first step of a drain.
    pub fn stop_fetching(&self) {
        self.0.draining.cancel();
        self.0.beat_now.notify_one();
    }

    /// Waits until somebody has told this process to drain (see [`Queues::drain`]).
    pub async fn told_to_drain(&self) {
        self.0.told_to_drain.cancelled().await;
    }

    /// Stops all runs.
    pub fn stop_all(&self, reason: Stop) {
        for held in lock(&self.0.held).values() {
            held.stop.fire(reason);
        }
    }

    /// Changes how many jobs may run at the same time while the queue shares out no slots; running ones are not touched.
    pub fn set_slots(&self, slots: usize) {
        self.0.own_slots.store(slots, SeqCst);
        self.0.beat_now.notify_one();
    }

    /// Runs that are ours: waiting for a slot, running, or being settled.
    pub fn held(&self) -> usize {
        lock(&self.0.held).len()
    }

    /// What the process may do and does.
    pub fn load(&self) -> Load {
        Load { slots: self.0.slots.load(SeqCst), busy: self.0.busy.load(SeqCst), held: self.held() }
    }

    /// Records how far a run is; coalesced to ten times a second. Progress of a run that is not the newest is dropped.
    pub fn progress(&self, id: &JobId, run: u64, progress: &Progress) {
        if let Ok(json) = serde_json::to_string(progress) {
            lock(&self.0.progress).insert(Run { job: id.uuid(), number: run }, json);
            self.0.progressed.notify_one();
        }
    }

    /// Appends a line to the log of a run's job. Lines go out ten times a second, and all of a run before its outcome; of
    /// more than 100 a second (200 after a silence) the rest is left out, and a line says how many. Lines of a run that is
    /// not the newest are dropped.
    pub fn log(&self, id: &JobId, run: u64, entry: LogEntry) {
        self.0.while_held(Run { job: id.uuid(), number: run }, |logs, run| logs.add(run, entry));
    }

    /// Says that lines of a run were left out before they came here.
    pub fn log_left_out(&self, id: &JobId, run: u64, lines: u64) {
        self.0.while_held(Run { job: id.uuid(), number: run }, |logs, run| logs.left_out(run, lines));
    }
}

impl QueueBackend {
    /// Starts the loops. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// If Redis does not answer now or keeps this queue in another layout.
    pub async fn start(queues: &Queues, queue: QueueName, config: WorkerConfig) -> Result<Self, QueueError> {
        let transitions = Transitions::of(queues, queue).await?;
        let (settlements, outcomes) = mpsc::unbounded_channel();
        let (sender, deliveries) = mpsc::channel(fetch::BATCH);
        let shared = Arc::new(Shared {
            transitions,
            worker: config.worker.clone(),
            lease: config.lease,
            prefetch: config.prefetch,
            own_slots: AtomicUsize::new(config.slots),
            slots: AtomicUsize::new(config.slots),
            busy: AtomicUsize::new(0),
            freed: AtomicWaker::new(),
            held: Mutex::default(),
            changed: Notify::new(),
            wake: Notify::new(),
            beat_now: Notify::new(),
            told_to_drain: CancellationToken::new(),
            draining: CancellationToken::new(),
            handed_out: CancellationToken::new(),
            settled: CancellationToken::new(),
            settlements,
            progress: Mutex::default(),
            progressed: Notify::new(),
            telling: Notify::new(),
            logs: log::Logs::default(),
        });
        // Before the first fetch, so that it has its share of the queue's slots from the start.
        let mut pulse = beat::Pulse::new(&shared, &config);
        pulse.beat(&shared).await?;
        let beating = Some(tokio::spawn(beat::run(shared.clone(), pulse)));
        let others = vec![
            tokio::spawn(fetch::run(shared.clone(), sender, config.poll)).abort_handle(),
            tokio::spawn(fetch::listen(shared.clone())).abort_handle(),
            tokio::spawn(relay(shared.clone())).abort_handle(),
            tokio::spawn(leases::renew(shared.clone())).abort_handle(),
            tokio::spawn(leases::keep_house(shared.clone(), config.kept)).abort_handle(),
            tokio::spawn(settle::report_progress(shared.clone())).abort_handle(),
            tokio::spawn(log::report(shared.clone())).abort_handle(),
        ];
        let settling = Some(tokio::spawn(settle::run(shared.clone(), outcomes)));
        Ok(Self { config, shared, deliveries, settling, beating, others })
    }

    /// A handle that steers this backend.
    pub fn handle(&self) -> BackendHandle {
        BackendHandle(self.shared.clone())
    }
}

/// Tells those that wait for jobs of this queue.
async fn relay(shared: Arc<Shared>) {
    Relay::on(shared.transitions.link().clone(), shared.queue().clone()).run(&shared.telling).await;
}

impl Backend for QueueBackend {
    type Task = Task<Delivery>;
    type Error = Infallible;

    fn poll_ready(&mut self, cx: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Infallible>> {
        self.shared.freed.register(cx.waker());
        if self.shared.busy.load(SeqCst) < self.shared.slots.load(SeqCst) { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>, _: &WorkerContext) -> Poll<Option<Result<Self::Task, Infallible>>> {
        self.deliveries.poll_recv(cx).map(|delivery| {
            let delivery = delivery?;
            self.shared.start_one();
            Some(Ok(Task::new(delivery)))
        })
    }

    fn poll_close(&mut self, cx: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Infallible>> {
        self.shared.draining.cancel();
        // The fetching loop may still be bringing something; it ends the channel when it has ended.
        while !self.shared.handed_out.is_cancelled() {
            match std::task::ready!(self.deliveries.poll_recv(cx)) {
                Some(delivery) => {
                    let back = Outcome::Released { delay: Duration::ZERO };
                    self.shared.settle(delivery.key(), back);
                }
                None => self.shared.handed_out.cancel(),
            }
        }
        // The settling loop ends once nothing is held any more, and the beating one after it.
        std::task::ready!(poll_end(&mut self.settling, cx));
        self.shared.settled.cancel();
        poll_end(&mut self.beating, cx).map(Ok)
    }
}

/// Ready when the loop has ended.
fn poll_end(running: &mut Option<JoinHandle<()>>, cx: &mut Context<'_>) -> Poll<()> {
    if let Some(handle) = running {
        let _ended = std::task::ready!(handle.poll_unpin(cx));
        *running = None;
    }
    Poll::Ready(())
}

impl BackendConfig for QueueBackend {
    type Args = Delivery;
    type Id = TaskId;
    type Kind = Ephemeral;
    type Config = WorkerConfig;
    type Layer = SettleLayer;

    fn config(&self) -> &WorkerConfig {
        &self.config
    }

    fn middleware(&mut self, _: &mut WorkerContext) -> SettleLayer {
        SettleLayer::new(self.shared.clone())
    }
}

impl Drop for QueueBackend {
    fn drop(&mut self) {
        self.others.iter().for_each(AbortHandle::abort);
        [&self.settling, &self.beating].into_iter().flatten().for_each(JoinHandle::abort);
    }
}
