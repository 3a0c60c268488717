//! Pushing jobs. Concurrent pushes into one queue go to Redis together, which multiplies what it can take;
//! a push that comes alone goes at once.

use std::{sync::Arc, time::Duration};

use fourmi_model::{
    Envelope, History, JobId, KEY_LIVES, MAX_LIMITS, MAX_UNIQUE, ParentFailure, ParkReason, Priority, QueueName,
    Retention, Submission, TenantName, Unique, UniqueUntil,
};
use futures_util::{FutureExt, StreamExt, TryStreamExt, future::BoxFuture, stream};
use redis::Value;
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot};
use uuid::Uuid;

use crate::{
    Pushed, QueueError, Refusal,
    flows::known_parent,
    link::Link,
    pressure::Pressure,
    queues::milliseconds,
    read::{meta_key, number, priority_number, text, timestamp},
    scripts,
};

/// Jobs that one script call accepts at most: about two milliseconds of Redis's time.
const BATCH: usize = 400;

/// When a full queue is worth another try.
const FULL_RETRY: Duration = Duration::from_secs(5);

type Answer = Result<Result<Pushed, Refusal>, QueueError>;

/// Pushes into one queue.
#[derive(Clone)]
pub(crate) struct Pusher {
    line: Arc<Line>,
    waiting: mpsc::Sender<(Row, oneshot::Sender<Answer>)>,
}

/// The way into a queue.
struct Line {
    link: Link,
    queue: QueueName,
    pressure: Mutex<Pressure>,
    /// Two calls are under way at most: one runs in Redis while the next is written.
    calls: Arc<Semaphore>,
}

const CALLS: usize = 2;

/// A job in the form that `push.lua` takes.
pub(crate) struct Row {
    id: JobId,
    envelope: String,
    options: String,
}

impl Row {
    pub(crate) fn new(id: JobId, submission: &Submission) -> Result<Self, QueueError> {
        Self::with(id, submission, Options::of(submission))
    }

    /// The handle of a batch with so many members.
    pub(crate) fn batch(id: JobId, submission: &Submission, members: u64) -> Result<Self, QueueError> {
        Self::with(id, submission, Options { b: Some(members), ..Options::of(submission) })
    }

    fn with(id: JobId, submission: &Submission, options: Options) -> Result<Self, QueueError> {
        let unreadable = |error| QueueError::Corrupt(format!("a submission that cannot be written as JSON: {error}"));
        let envelope = serde_json::to_string(&submission.envelope).map_err(unreadable)?;
        let options = match options.is_plain() {
            true => String::new(),
            false => serde_json::to_string(&options).map_err(unreadable)?,
        };
        Ok(Self { id, envelope, options })
    }
}

/// What `push.lua` needs to know beside the envelope, by the letters in its header.
#[derive(Serialize)]
struct Options {
    p: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    t: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    x: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    i: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    e: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    d: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    k: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    h: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    l: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    o: Option<char>,
    #[serde(skip_serializing_if = "Option::is_none")]
    s: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    f: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    g: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    m: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    u: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    v: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    a: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    y: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r: Option<char>,
    #[serde(skip_serializing_if = "Option::is_none")]
    b: Option<u64>,
}

impl Options {
    fn of(submission: &Submission) -> Self {
        let key = submission.idempotency_key.as_ref();
        // Most kinds keep to the defaults, which cost nothing.
        let retention = Some(submission.retention).filter(|retention| *retention != Retention::default());
        Self {
            p: priority_number(submission.priority),
            t: submission.not_before.map(|time| time.as_millisecond()),
            x: submission.parked.map(ParkReason::as_str),
            i: submission.isolated.then_some(1),
            e: submission.endless.then_some(1),
            d: submission.envelope.deadline.map(|time| time.as_millisecond()),
            k: key.map(|key| match &submission.tenant {
                Some(tenant) => hash(&[tenant.as_str(), key]),
                None => hash(&[key]),
            }),
            h: key.map(|_| payload_hash(&submission.envelope)),
            l: key.map(|_| milliseconds(submission.key_life.clamp(*KEY_LIVES.start(), *KEY_LIVES.end()))),
            o: match submission.history {
                History::All => None,
                History::Failures => Some('f'),
                History::None => Some('n'),
            },
            s: retention.map(|retention| milliseconds(retention.done)),
            f: retention.map(|retention| milliseconds(retention.failed)),
            g: submission.tenant.as_ref().map(ToString::to_string),
            m: limits(submission),
            u: submission.unique.as_ref().map(|unique| like(unique, submission)),
            v: submission.unique.as_ref().and_then(|unique| match unique.until {
                UniqueUntil::ForS(seconds) => {
                    Some(milliseconds(Duration::from_secs(seconds.max(1).into()).min(MAX_UNIQUE)))
                }
                UniqueUntil::Started | UniqueUntil::Finished => None,
            }),
            a: unmet(submission),
            y: submission.known_parents.iter().flat_map(known_parent).collect(),
            r: match submission.envelope.on_parent_failure {
                ParentFailure::Cancel => None,
                ParentFailure::Run => Some('r'),
                ParentFailure::Wait => Some('w'),
            },
            b: None,
        }
    }

    fn is_plain(&self) -> bool {
        self.p == priority_number(Priority::Normal)
            && self.t.is_none()
            && self.x.is_none()
            && self.i.is_none()
            && self.e.is_none()
            && self.d.is_none()
            && self.k.is_none()
            && self.o.is_none()
            && self.s.is_none()
            && self.g.is_none()
            && self.m.is_none()
            && self.u.is_none()
            && self.a.is_empty()
            && self.y.is_empty()
            && self.b.is_none()
    }
}

/// The jobs that it waits for, but for those that are over and forgotten.
pub(crate) fn unmet(submission: &Submission) -> Vec<String> {
    let is_known = |id: &JobId| submission.known_parents.iter().any(|(known, _)| known == id);
    submission.envelope.after.iter().filter(|id| !is_known(id)).map(ToString::to_string).collect()
}

/// The limits that a job names, each once.
pub(crate) fn limits(submission: &Submission) -> Option<String> {
    let mut names: Vec<&str> =
        submission.limits.iter().filter(|name| name.is_for_jobs()).map(|name| name.as_str()).take(MAX_LIMITS).collect();
    names.sort_unstable();
    names.dedup();
    (!names.is_empty()).then(|| names.join(" "))
}

/// What a job has in common with its like, after a letter that says how long it excludes them. A payload that lacks a
/// field is like itself only.
fn like(unique: &Unique, submission: &Submission) -> String {
    let letter = match unique.until {
        UniqueUntil::Started => 's',
        UniqueUntil::Finished => 'f',
        UniqueUntil::ForS(_) => 't',
    };
    let Envelope { kind, payload, .. } = &submission.envelope;
    let parts = unique.key_parts(payload.get()).unwrap_or_else(|_| vec![payload.get().to_owned()]);
    let tenant = submission.tenant.as_ref().map_or("", TenantName::as_str);
    let whole: Vec<&str> = [tenant, kind.as_str()].into_iter().chain(parts.iter().map(String::as_str)).collect();
    format!("{letter}{}", hash(&whole))
}

fn payload_hash(envelope: &Envelope) -> String {
    hash(&[envelope.kind.as_str(), envelope.payload.get()])
}

/// 128 bits of SHA-256: enough that two keys never meet.
fn hash(parts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hex::encode(&hasher.finalize()[..16])
}

impl Pusher {
    pub(crate) fn start(link: Link, queue: QueueName) -> Self {
        let line = Line { link, queue, pressure: Mutex::default(), calls: Arc::new(Semaphore::new(CALLS)) };
        let (line, (waiting, inbox)) = (Arc::new(line), mpsc::channel(16 * BATCH));
        tokio::spawn(run(line.clone(), inbox));
        Self { line, waiting }
    }

    pub(crate) async fn push(&self, row: Row) -> Answer {
        // Who comes alone need not wait for a task to take it along.
        if self.line.calls.available_permits() == CALLS
            && let Ok(_call) = self.line.calls.try_acquire()
        {
            let answer = self.line.push(&[row]).await?.pop();
            return answer.ok_or_else(|| QueueError::Corrupt("no answer to a push".into()));
        }
        let (answer, answered) = oneshot::channel();
        let stopped = || QueueError::Unavailable("the program is stopping".into());
        self.waiting.send((row, answer)).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }

    /// Pushes any number of rows. Those that come one by one meanwhile take turns with them.
    pub(crate) async fn push_many(&self, rows: &[Row]) -> Result<Vec<Result<Pushed, Refusal>>, QueueError> {
        self.line.pressure.lock().await.check(&self.line.link).await?;
        let calls: Vec<BoxFuture<'_, _>> =
            rows.chunks(BATCH).map(|chunk| self.line.push_in_turn(chunk).boxed()).collect();
        // One runs in Redis while the next is written. They go over one connection, so they keep their order.
        let answers: Vec<Vec<_>> = stream::iter(calls).buffered(CALLS).try_collect().await?;
        Ok(answers.into_iter().flatten().collect())
    }
}

impl Line {
    async fn push(&self, rows: &[Row]) -> Result<Vec<Result<Pushed, Refusal>>, QueueError> {
        self.pressure.lock().await.check(&self.link).await?;
        push_rows(&self.link, &self.queue, rows).await
    }

    /// Pushes rows in one call, which waits for its turn.
    async fn push_in_turn(&self, rows: &[Row]) -> Result<Vec<Result<Pushed, Refusal>>, QueueError> {
        let _turn = self.calls.acquire().await;
        push_rows(&self.link, &self.queue, rows).await
    }
}

/// Sends what waits, again and again.
async fn run(line: Arc<Line>, mut inbox: mpsc::Receiver<(Row, oneshot::Sender<Answer>)>) {
    let mut batch = Vec::with_capacity(BATCH);
    while inbox.recv_many(&mut batch, BATCH).await > 0 {
        let Ok(turn) = line.calls.clone().acquire_owned().await else { return };
        // Callers that were answered together are about to push again: they share a call.
        tokio::task::yield_now().await;
        while batch.len() < BATCH
            && let Ok(waiting) = inbox.try_recv()
        {
            batch.push(waiting);
        }
        let (rows, senders): (Vec<Row>, Vec<_>) = batch.drain(..).unzip();
        let line = line.clone();
        tokio::spawn(async move {
            let answers = line.push(&rows).await;
            drop(turn);
            match answers {
                Ok(answers) => {
                    for (sender, answer) in senders.into_iter().zip(answers) {
                        // A caller that has gone away does not need its answer.
                        let _ = sender.send(Ok(answer));
                    }
                }
                Err(error) => {
                    for sender in senders {
                        let _ = sender.send(Err(error.clone()));
                    }
                }
            }
        });
    }
}

/// Pushes rows of one queue in one script call.
async fn push_rows(link: &Link, queue: &QueueName, rows: &[Row]) -> Result<Vec<Result<Pushed, Refusal>>, QueueError> {
    let mut call = scripts::PUSH.key(meta_key(queue));
    let mut uuid = Uuid::encode_buffer();
    for row in rows {
        call.arg(&*row.id.uuid().hyphenated().encode_lower(&mut uuid)).arg(&row.envelope).arg(&row.options);
    }
    let answer: Vec<Value> = link.invoke(&call).await?;
    let corrupt = || QueueError::Corrupt("the answer to a push".into());
    let [now, others @ ..] = answer.as_slice() else { return Err(corrupt()) };
    let accepted_at = timestamp(number(now).unsigned_abs());
    let accepted = |row: &Row| Ok(Pushed { id: row.id.clone(), accepted_at, is_like: false });
    let mut answers: Vec<_> = rows.iter().map(accepted).collect();
    for other in others.chunks_exact(2) {
        let place = usize::try_from(number(&other[0])).ok().and_then(|place| place.checked_sub(1));
        let at = place.filter(|at| *at < rows.len()).ok_or_else(corrupt)?;
        answers[at] = read_answer(&rows[at].id, text(&other[1]))?;
    }
    Ok(answers)
}

fn read_answer(id: &JobId, answer: &str) -> Result<Result<Pushed, Refusal>, QueueError> {
    let other = |text: &str| {
        let uuid =
            Uuid::try_parse(text).map_err(|_| QueueError::Corrupt(format!("the answer {answer:?} to a push")))?;
        Ok::<_, QueueError>(JobId::from_parts(id.queue().clone(), uuid))
    };
    Ok(match answer {
        "=" => Ok(Pushed { id: id.clone(), accepted_at: None, is_like: false }),
        "full" => Err(Refusal::QueueFull { retry_after: FULL_RETRY }),
        _ => match answer.split_at(1) {
            ("=", uuid) => Ok(Pushed { id: other(uuid)?, accepted_at: None, is_like: false }),
            ("~", uuid) => Ok(Pushed { id: other(uuid)?, accepted_at: None, is_like: true }),
            ("!", uuid) => Err(Refusal::IdempotencyConflict(other(uuid)?)),
            _ => return Err(QueueError::Corrupt(format!("the answer {answer:?} to a push"))),
        },
    })
}
