//! Submits jobs, and notes on disk what was accepted. Killed and started again, it submits what had no answer once more,
//! under the same id.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use fourmi_kinds::JobKind;
use fourmi_model::{JobId, Priority, QueueName, State, Submission, Unique, UniqueUntil};
use fourmi_queue::{Pushed, QueueError, Queues, Refusal};
use futures_util::future::join_all;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::to_raw_value;
use tokio::{signal::unix::SignalKind, time::sleep};
use uuid::Uuid;

use super::{
    journal::{self, Journal, now},
    random::Random,
    work::{QUEUE, Work, WorkInChild},
};

/// Above so many unfinished jobs nothing is submitted: what is taken back must not wait for long.
const BACKLOG: u64 = 60;

/// What limits some of the jobs, and how many of them may run at the same time.
pub(super) const LIMIT: &str = "host/chaos";
pub(super) const MOST_AT_ONCE: usize = 3;

/// A job as it is meant to be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) id: Uuid,
    pub(super) in_child: bool,
    pub(super) work: Work,
    pub(super) priority: usize,
    pub(super) not_before: Option<Timestamp>,
    pub(super) deadline: Option<Timestamp>,
    pub(super) key: Option<String>,
    pub(super) tenant: Option<u64>,
    /// Whether it is under [`LIMIT`].
    pub(super) limited: bool,
    /// Whether it excludes its like until it is over.
    pub(super) unique: bool,
    /// The job that it waits for.
    pub(super) after: Option<Uuid>,
}

/// A line of the journal of a submitter.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Line {
    pub(super) at: i64,
    #[serde(flatten)]
    pub(super) what: Note,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Note {
    /// Is about to submit; what follows says whether that worked.
    Submits(Order),
    /// The job was accepted, as this job.
    Accepted {
        id: Uuid,
        as_job: Uuid,
    },
    Refused {
        id: Uuid,
        why: String,
    },
    /// Is about to cancel.
    Cancels {
        id: Uuid,
    },
    /// It was cancelled before it started.
    CancelledAtOnce {
        id: Uuid,
    },
}

/// What a submitter is told.
#[derive(Debug, Clone, clap::Args)]
pub struct Task {
    /// Its journal.
    #[arg(long)]
    journal: PathBuf,
    /// The journal of the effects of jobs.
    #[arg(long)]
    effects: PathBuf,
    /// Its place among the submitters.
    #[arg(long)]
    number: u64,
    /// Of its random numbers.
    #[arg(long)]
    seed: u64,
    /// Submits nothing new: only what an earlier process had no answer for.
    #[arg(long)]
    to_end: bool,
}

impl Task {
    pub(super) const TO_END: &str = "--to-end";

    pub(super) fn arguments(journal: &Path, effects: &Path, number: usize, seed: u64) -> Vec<String> {
        let [journal, effects] = [journal, effects].map(|path| path.display().to_string());
        ["--journal", &journal, "--effects", &effects, "--number", &number.to_string(), "--seed", &seed.to_string()]
            .map(str::to_owned)
            .to_vec()
    }
}

/// Submits until it is asked to stop, and then until everything has an answer.
pub(super) async fn run(task: Task) {
    let mut stop = tokio::signal::unix::signal(SignalKind::terminate()).unwrap();
    let (stopping, stopped) = tokio::sync::watch::channel(task.to_end);
    tokio::spawn(async move {
        stop.recv().await;
        stopping.send_replace(true);
    });
    let lines: Vec<Line> = journal::read(&task.journal);
    let unanswered = unanswered(&lines);
    let submitter = Submitter {
        queues: connect().await,
        journal: Journal::open(&task.journal),
        random: Random::new(task.seed, 1_000 * (task.number + 1) + lines.len() as u64),
        keyed: None,
        accepted: Vec::new(),
        task,
    };
    submitter.run(unanswered, || *stopped.borrow()).await;
}

fn unanswered(lines: &[Line]) -> Vec<Order> {
    let mut open = BTreeMap::new();
    for line in lines {
        match &line.what {
            Note::Submits(order) => {
                open.insert(order.id, order.clone());
            }
            Note::Accepted { id, .. } | Note::Refused { id, .. } => {
                open.remove(id);
            }
            Note::Cancels { .. } | Note::CancelledAtOnce { .. } => {}
        }
    }
    open.into_values().collect()
}

async fn connect() -> Queues {
    let url = std::env::var("REDIS_URL").unwrap();
    loop {
        match Queues::connect(&url).await {
            Ok(queues) => return queues,
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
}

pub(super) fn queue() -> QueueName {
    QUEUE.parse().unwrap()
}

pub(super) fn job_id(id: Uuid) -> JobId {
    JobId::from_parts(queue(), id)
}

struct Submitter {
    queues: Queues,
    journal: Journal,
    random: Random,
    /// The newest job with an idempotency key.
    keyed: Option<Order>,
    /// The newest jobs.
    accepted: Vec<Uuid>,
    task: Task,
}

impl Submitter {
    fn note(&self, what: Note) {
        self.journal.write(&Line { at: now(), what });
    }

    async fn run(mut self, unanswered: Vec<Order>, stopped: impl Fn() -> bool) {
        self.submit_all(unanswered).await;
        while !stopped() {
            if self.backlog().await.is_none_or(|jobs| jobs > BACKLOG) {
                sleep(Duration::from_millis(50)).await;
                continue;
            }
            let count = match self.random.below(100) {
                0..60 => 1,
                60..95 => self.random.between(2, 8),
                _ => 25,
            };
            let orders: Vec<Order> = (0..count).map(|_| self.invent()).collect();
            for order in &orders {
                self.note(Note::Submits(order.clone()));
            }
            if count == 25 {
                self.submit_in_bulk(orders).await
            } else {
                self.submit_all(orders).await
            }
            if self.random.percent(15) {
                self.cancel_one().await;
            }
            let pause = self.random.between(5, 60);
            sleep(Duration::from_millis(pause)).await;
        }
    }

    async fn backlog(&self) -> Option<u64> {
        let counts = self.queues.counts(&queue()).await.ok()?;
        Some(counts.0.iter().filter(|(state, _)| !state.is_final()).map(|(_, jobs)| jobs).sum())
    }

    fn invent(&mut self) -> Order {
        let random = &mut self.random;
        // The same key and payload again, under another id.
        if let Some(order) = self.keyed.take_if(|_| random.percent(30)) {
            return Order { id: Uuid::now_v7(), ..order };
        }
        let in_child = random.percent(25);
        let ms = if random.percent(8) { random.between(500, 2_500) } else { random.between(0, 60) };
        let fail = if random.percent(10) { u32::try_from(random.between(1, 3)).unwrap() } else { 0 };
        let crash = if in_child && random.percent(5) { 1 } else { 0 };
        let clock = Timestamp::now();
        let later = |ms: u64| clock + Duration::from_millis(ms);
        let not_before = random.percent(10).then(|| later(random.between(0, 3_000)));
        let deadline = random.percent(8).then(|| later(random.between(3_000, 8_000)));
        let priority = if random.percent(30) { random.index(Priority::ALL.len()) } else { 2 };
        let id = Uuid::now_v7();
        let unique = random.percent(10);
        let key = (!unique && random.percent(10)).then(|| format!("key of {id}"));
        let tenant = random.percent(40).then(|| random.below(5));
        let limited = random.percent(30);
        let after = (key.is_none() && !self.accepted.is_empty() && random.percent(15))
            .then(|| self.accepted[random.index(self.accepted.len())]);
        let work = Work { effects: self.task.effects.clone(), ms, fail, crash };
        let order = Order { id, in_child, work, priority, not_before, deadline, key, tenant, limited, unique, after };
        if order.key.is_some() {
            self.keyed = Some(order.clone());
        }
        order
    }

    /// Concurrently, each until it has an answer.
    async fn submit_all(&mut self, orders: Vec<Order>) {
        let this = &*self;
        let accepted = join_all(orders.iter().map(|order| this.submit(order))).await;
        self.remember(accepted.into_iter().flatten());
    }

    async fn submit(&self, order: &Order) -> Option<Uuid> {
        loop {
            match self.queues.push(job_id(order.id), order.submission()).await {
                Ok(answer) => return self.answered(order, answer),
                Err(error) => self.wait_after(&error).await,
            }
        }
    }

    async fn submit_in_bulk(&mut self, orders: Vec<Order>) {
        let jobs: Vec<_> = orders.iter().map(|order| (job_id(order.id), order.submission())).collect();
        let answers = loop {
            match self.queues.push_many(&queue(), &jobs).await {
                Ok(answers) => break answers,
                Err(error) => self.wait_after(&error).await,
            }
        };
        let accepted: Vec<_> =
            orders.iter().zip(answers).filter_map(|(order, answer)| self.answered(order, answer)).collect();
        self.remember(accepted);
    }

    async fn wait_after(&self, error: &QueueError) {
        assert!(matches!(error, QueueError::Unavailable(_)), "a submission fails for no reason of ours: {error}");
        sleep(Duration::from_millis(20)).await;
    }

    fn answered(&self, order: &Order, answer: Result<Pushed, Refusal>) -> Option<Uuid> {
        let (what, accepted) = match answer {
            Ok(pushed) => (Note::Accepted { id: order.id, as_job: pushed.id.uuid() }, Some(pushed.id.uuid())),
            Err(refusal) => (Note::Refused { id: order.id, why: refusal.to_string() }, None),
        };
        self.journal.write_durably(&Line { at: now(), what });
        accepted
    }

    fn remember(&mut self, jobs: impl IntoIterator<Item = Uuid>) {
        self.accepted.extend(jobs);
        let surplus = self.accepted.len().saturating_sub(50);
        self.accepted.drain(..surplus);
    }

    async fn cancel_one(&mut self) {
        if self.accepted.is_empty() {
            return;
        }
        let id = self.accepted[self.random.index(self.accepted.len())];
        self.note(Note::Cancels { id });
        // Without an answer it may have been cancelled or not.
        if let Ok(fourmi_queue::Cancelled::Now) = self.queues.cancel(&job_id(id)).await {
            self.note(Note::CancelledAtOnce { id });
        }
    }
}

impl Order {
    fn submission(&self) -> Submission {
        let (kind, payload, policy) = if self.in_child {
            (WorkInChild::NAME, to_raw_value(&WorkInChild(self.work.clone())), WorkInChild::policy())
        } else {
            (Work::NAME, to_raw_value(&self.work), Work::policy())
        };
        let mut submission = Submission::new(kind.parse().unwrap(), payload.unwrap());
        submission.priority = Priority::ALL[self.priority];
        submission.not_before = self.not_before;
        submission.idempotency_key.clone_from(&self.key);
        submission.envelope.deadline = self.deadline;
        submission.tenant = self.tenant.map(|tenant| format!("t{tenant}").parse().unwrap());
        submission.limits = self.limited.then(|| LIMIT.parse().unwrap()).into_iter().collect();
        submission.unique = self.unique.then(|| Unique { until: UniqueUntil::Finished, by: Vec::new() });
        submission.envelope.after = self.after.map(job_id).into_iter().collect();
        submission.note(&policy);
        submission
    }
}

/// Jobs of the queue that are not over; `None` if Redis does not say.
pub(super) async fn unfinished(queues: &Queues) -> Option<BTreeMap<State, u64>> {
    queues.counts(&queue()).await.ok().map(|counts| counts.0)
}
