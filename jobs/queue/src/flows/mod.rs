//! Jobs that wait for other jobs, of any queues.
//!
//! No script reaches two queues, so a tie has two ends: the job that waits has what it waits for in `dep`, and those have
//! it in `kids`. The script that ends a job puts it into `relay` if it has such; a [`Relay`] tells those that wait. What a
//! crash has left with one end, the relay's sweep of `blocked` ties again. All of it may happen twice or at many places
//! at once, and then changes nothing.

mod graph;
mod members;
mod relay;

use std::collections::BTreeMap;

use fourmi_model::{
    ErrorClass, ErrorReport, JobId, MAX_BATCH, MAX_PARENTS, Parent, ParentOutcome, QueueName, Retention, State,
    Submission, TenantName,
};
use redis::Value;
use uuid::Uuid;

use crate::{
    Pushed, QueueError, Queues, Refusal, Run, Transitions,
    link::Link,
    push::Row,
    queues::milliseconds,
    read::{self, meta_key, number, text},
    scripts,
};

pub use graph::{Flow, FlowEdge, FlowJob};
pub(crate) use relay::CHANNEL;
pub use relay::{Relay, Told, relay_all};

/// Ties that one script call handles at most (invariant 8).
const STEP: usize = 1_000;

/// Jobs that may be over that are asked about at once: with results of 64 KiB each, thirteen megabytes.
const FOLLOW_STEP: usize = 200;

/// A job that is over, and those that are to hear of it.
#[derive(Debug, Clone)]
struct News {
    parent: JobId,
    ending: Ending,
    /// The version of the job with this end; `None` if the queue has forgotten it.
    version: Option<u64>,
    kids: Vec<JobId>,
}

/// How a job ended, as those that wait for it are told.
#[derive(Debug, Clone)]
enum Ending {
    Over {
        state: State,
        /// JSON, or empty.
        said: String,
    },
    /// It is forgotten, and not known to have succeeded.
    Gone,
}

/// What stands in an answer for a result that is too large.
const TOO_LARGE: &str = "-";

impl Ending {
    fn read(state: &str, said: &str) -> Result<Self, QueueError> {
        match state {
            "" | "gone" => Ok(Self::Gone),
            word => {
                let state = word.parse().map_err(|error| QueueError::Corrupt(format!("a job's state: {error}")))?;
                Ok(Self::Over { state, said: said.to_owned() })
            }
        }
    }

    fn state(&self) -> &'static str {
        match self {
            Self::Over { state, .. } => state.as_str(),
            Self::Gone => "gone",
        }
    }

    /// What is kept for the handler of whoever waited.
    fn outcome(&self, parent: &JobId) -> String {
        let (state, said) = match self {
            Self::Over { state, said } => (*state, said.as_str()),
            Self::Gone => return json(&ParentOutcome { error: Some(self.error(parent)), ..gone() }),
        };
        match said {
            "" => format!(r#"{{"state":"{state}"}}"#),
            TOO_LARGE => format!(r#"{{"state":"{state}","left_out":true}}"#),
            // It is JSON already.
            said if state == State::Succeeded => format!(r#"{{"state":"{state}","result":{said}}}"#),
            said => format!(r#"{{"state":"{state}","error":{said}}}"#),
        }
    }

    /// Why a job is cancelled that waited for this one.
    fn error(&self, parent: &JobId) -> ErrorReport {
        let (code, message) = match self {
            Self::Gone => ("parent_gone", format!("{parent}, which this job waited for, is not kept any longer")),
            Self::Over { state: State::Failed, .. } => {
                ("parent_failed", format!("{parent}, which this job waited for, has failed"))
            }
            Self::Over { state, .. } => ("parent_failed", format!("{parent}, which this job waited for, is {state}")),
        };
        ErrorReport {
            code: code.to_owned(),
            class: ErrorClass::Cancelled,
            message,
            retryable: false,
            retry_after_ms: None,
            stage: None,
            cause: None,
        }
    }
}

/// A job of which nothing is known counts as one that did not succeed.
fn gone() -> ParentOutcome {
    ParentOutcome { state: State::Cancelled, result: None, error: None, left_out: false }
}

fn json(value: &impl serde::Serialize) -> String {
    // Strings, numbers and plain enums always become JSON.
    serde_json::to_string(value).unwrap_or_default()
}

/// A job's outcome in the form that a waiting one keeps.
pub(crate) fn known_parent((id, outcome): &(JobId, ParentOutcome)) -> [String; 2] {
    [id.to_string(), json(outcome)]
}

/// Ties jobs to those that they wait for (first the one that is waited for). Those of them that are over already are
/// told at once.
pub(crate) async fn follow(link: &Link, ties: &[(&JobId, &JobId)]) -> Result<(), QueueError> {
    let mut by_queue: BTreeMap<&QueueName, Vec<(&JobId, &JobId)>> = BTreeMap::new();
    for (parent, kid) in ties {
        by_queue.entry(parent.queue()).or_default().push((parent, kid));
    }
    for (queue, ties) in by_queue {
        for ties in ties.chunks(FOLLOW_STEP) {
            let mut call = scripts::FOLLOW.key(meta_key(queue));
            for (parent, kid) in ties {
                call.arg(hyphenated(parent)).arg(kid.to_string());
            }
            let answers: Vec<Value> = link.invoke(&call).await?;
            let news = answers.chunks_exact(4).map(|answer| {
                let place = usize::try_from(number(&answer[0])).unwrap_or_default();
                let corrupt = || QueueError::Corrupt("the answer to a follow".into());
                let (parent, kid) = place.checked_sub(1).and_then(|at| ties.get(at)).ok_or_else(corrupt)?;
                Ok(News {
                    parent: (*parent).clone(),
                    ending: Ending::read(text(&answer[1]), text(&answer[3]))?,
                    version: text(&answer[2]).parse().ok(),
                    kids: vec![(*kid).clone()],
                })
            });
            tell(link, &news.collect::<Result<Vec<_>, QueueError>>()?).await?;
        }
    }
    Ok(())
}

/// Tells those that wait, then notes that they have been told; whether some are left to be told.
async fn tell(link: &Link, news: &[News]) -> Result<bool, QueueError> {
    let heard = resolve(link, news).await?;
    note_told(link, news, &heard).await
}

/// Tells those that wait; of each job, in the order of its kids, whether they need not hear of it again.
async fn resolve(link: &Link, news: &[News]) -> Result<Vec<Vec<bool>>, QueueError> {
    let mut heard: Vec<Vec<bool>> = news.iter().map(|news| vec![false; news.kids.len()]).collect();
    // Per queue of those that wait: which news, which of its kids.
    let mut by_queue: BTreeMap<&QueueName, Vec<(usize, usize)>> = BTreeMap::new();
    for (n, news) in news.iter().enumerate() {
        for (k, kid) in news.kids.iter().enumerate() {
            by_queue.entry(kid.queue()).or_default().push((n, k));
        }
    }
    for (queue, told) in by_queue {
        for told in told.chunks(STEP) {
            let mut call = scripts::RESOLVE.key(meta_key(queue));
            let Retention { done, failed } = Retention::default();
            call.arg(milliseconds(done)).arg(milliseconds(failed));
            for told in told.chunk_by(|(one, _), (other, _)| one == other) {
                let News { parent, ending, .. } = &news[told[0].0];
                call.arg(parent.to_string()).arg(ending.state()).arg(ending.outcome(parent));
                call.arg(json(&ending.error(parent))).arg(told.len());
                for (n, k) in told {
                    call.arg(hyphenated(&news[*n].kids[*k]));
                }
            }
            let answers: Vec<u8> = link.invoke(&call).await?;
            for ((n, k), answer) in told.iter().zip(answers) {
                heard[*n][*k] = answer == 1;
            }
        }
    }
    Ok(heard)
}

/// Notes who was told; whether some are left.
async fn note_told(link: &Link, news: &[News], heard: &[Vec<bool>]) -> Result<bool, QueueError> {
    let mut by_queue: BTreeMap<&QueueName, Vec<(&News, &Vec<bool>)>> = BTreeMap::new();
    for (news, heard) in news.iter().zip(heard) {
        by_queue.entry(news.parent.queue()).or_default().push((news, heard));
    }
    let mut more = false;
    for (queue, all) in by_queue {
        // One call of `relay` or `follow` has brought a thousand at most.
        let mut call = scripts::TOLD.key(meta_key(queue));
        for (news, heard) in all {
            let version = news.version.map(|version| version.to_string()).unwrap_or_default();
            call.arg(hyphenated(&news.parent)).arg(version).arg(news.kids.len());
            for (kid, heard) in news.kids.iter().zip(heard) {
                call.arg(kid.to_string()).arg(u8::from(*heard));
            }
        }
        more |= link.invoke::<u8>(&call).await? == 1;
    }
    Ok(more)
}

fn hyphenated(id: &JobId) -> String {
    id.uuid().hyphenated().to_string()
}

impl Queues {
    /// Puts the handle of a batch into its queue: a job without work that ends when all `members` (at most
    /// [`MAX_BATCH`], none of them twice) have, as `succeeded`, or as `failed` with `members_failed`. The members must have
    /// been pushed before.
    ///
    /// # Errors
    /// As [`Queues::push`]; [`QueueError::Corrupt`] if there are no members or too many.
    pub async fn push_batch(
        &self,
        id: JobId,
        submission: Submission,
        members: &[JobId],
    ) -> Result<Result<Pushed, Refusal>, QueueError> {
        if members.is_empty() || members.len() > MAX_BATCH {
            return Err(QueueError::Corrupt(format!("a batch has 1 to {MAX_BATCH} members, not {}", members.len())));
        }
        let mut noted: u64 = 0;
        for members in members.chunks(STEP) {
            let mut call = scripts::GATHER.key(meta_key(id.queue()));
            call.arg(hyphenated(&id));
            members.iter().for_each(|member| {
                call.arg(member.to_string());
            });
            noted = self.link().invoke(&call).await?;
        }
        let answer = self.pusher(id.queue()).await?.push(Row::batch(id.clone(), &submission, noted)?).await?;
        if answer.is_ok() {
            let ties: Vec<_> = members.iter().map(|member| (member, &id)).collect();
            self.follow_or_leave(&ties).await;
        }
        Ok(answer)
    }

    /// Ties jobs that were just accepted to those that they wait for. What fails here the sweep makes good.
    pub(crate) async fn follow_or_leave(&self, ties: &[(&JobId, &JobId)]) {
        if let Err(error) = follow(self.link(), ties).await {
            tracing::debug!(%error, "jobs were not tied to those that they wait for; the sweep will do it");
        }
    }

    /// Cancels up to a thousand members of a batch whose handle was cancelled; whether some are left. A cancelled handle
    /// knows its members until they are, so that this can be done again.
    ///
    /// # Errors
    /// If Redis does not answer; some may have been cancelled then.
    pub async fn cancel_members(&self, batch: &JobId) -> Result<bool, QueueError> {
        if self.get(batch).await?.is_none_or(|job| job.state != State::Cancelled) {
            return Ok(false);
        }
        let key = read::key(batch.queue(), format_args!("dep:{}", hyphenated(batch)));
        let members: Vec<String> = self.link().query(redis::cmd("SRANDMEMBER").arg(&key).arg(STEP)).await?;
        let ids: Vec<JobId> = members.iter().filter_map(|id| id.parse().ok()).collect();
        for ids in ids.chunks(50) {
            // One multiplexed connection: all calls are under way at once.
            futures_util::future::try_join_all(ids.iter().map(|id| self.cancel(id))).await?;
        }
        if !members.is_empty() {
            let _removed: u64 = self.link().query(redis::cmd("SREM").arg(&key).arg(&members)).await?;
        }
        Ok(members.len() == STEP)
    }

    /// What became of the jobs that a job has waited for, in the order in which it names them.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn parents(&self, id: &JobId, after: &[JobId]) -> Result<Vec<Parent>, QueueError> {
        if after.is_empty() {
            return Ok(Vec::new());
        }
        let mut command = redis::cmd("HMGET");
        command.arg(read::key(id.queue(), format_args!("par:{}", hyphenated(id))));
        for parent in after.iter().take(MAX_PARENTS) {
            command.arg(parent.to_string());
        }
        let outcomes: Vec<Option<String>> = self.link().query(&command).await?;
        let mut parents = Vec::with_capacity(after.len());
        for (parent, outcome) in after.iter().zip(outcomes) {
            let mut outcome = match outcome {
                Some(json) => serde_json::from_str(&json)
                    .map_err(|_| QueueError::Corrupt(format!("what job {id} knows of {parent}")))?,
                // It did not wait until the end: somebody let it run.
                None => gone(),
            };
            if outcome.left_out
                && let Some(job) = self.get(parent).await?
            {
                outcome = ParentOutcome { state: job.state, result: job.result, error: job.error, left_out: false };
            }
            parents.push(Parent { id: parent.clone(), outcome });
        }
        Ok(parents)
    }
}

impl Transitions {
    /// Notes that a run is about to make a job, and gives the tenant that the job inherits; `None` if it may not because
    /// the run is somebody else's or over.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn note_child(&self, run: Run, child: &JobId) -> Result<Option<Option<TenantName>>, QueueError> {
        let mut call = scripts::CHILD.key(meta_key(self.queue()));
        call.arg(run.job.hyphenated().to_string()).arg(run.number).arg(child.to_string());
        let tenant: Option<String> = self.link().invoke(&call).await?;
        // What is there was checked when it was accepted.
        Ok(tenant.map(|name| name.parse().ok()))
    }
}

/// The full id that a script has written.
fn job_id(text: &str) -> Result<JobId, QueueError> {
    text.parse().map_err(|error| QueueError::Corrupt(format!("a tie between jobs: {error}")))
}

/// The job of a queue whose UUID a script has written.
fn local_id(queue: &QueueName, text: &str) -> Result<JobId, QueueError> {
    let uuid = Uuid::try_parse(text).map_err(|_| QueueError::Corrupt(format!("the job id {text:?}")))?;
    Ok(JobId::from_parts(queue.clone(), uuid))
}
