//! The jobs of one request that holds many: checked one by one, pushed together.

use std::{collections::BTreeMap, sync::Arc};

use fourmi_model::{JobId, QueueName, Submission};
use fourmi_queue::{Pushed, Refusal};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream};
use salvo::http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    body,
    caller::Caller,
    lines::Line,
    problem::{Code, Document, Problem},
    redis::in_time,
    routes::{
        jobs::{Jobs, check, unseen_like},
        submission::JobSubmission,
    },
};

/// Jobs that are checked at once: those that wait for others, or name files, ask for them.
const CHECKS: usize = 32;

/// The address of these requests.
const ADDRESS: &str = "/api/v1/jobs/bulk";

/// What became of a job.
#[derive(Serialize, JsonSchema)]
pub(super) struct BulkResult<'a> {
    /// Which job: the number of those before it.
    index: usize,
    /// The HTTP status that it would have had alone: 202 if it is accepted.
    status: u16,
    /// The job's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<JobId>,
    /// Whether it had been accepted before, under the same idempotency key.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    idempotency_replayed: bool,
    /// Whether the id is that of another job, which excludes its like.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    unique_conflict: bool,
    /// After how many seconds to try again.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_s: Option<u64>,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Document<'a>>,
}

/// The jobs of a request, as they come.
pub(super) struct Items {
    jobs: Arc<Jobs>,
    caller: Caller,
    /// The idempotency key of the request.
    key: Option<String>,
    accepted: usize,
    refused: usize,
    /// Whether Redis did not answer: then it is not asked for the rest.
    lost: bool,
}

type Checked = Result<(JobId, Submission), Problem>;
type Answer = Result<Pushed, Problem>;

/// The jobs for one queue, and their places among all.
type Share = (Vec<usize>, Vec<(JobId, Submission)>);

impl Items {
    pub(super) fn new(jobs: Arc<Jobs>, caller: Caller, key: Option<String>) -> Self {
        Self { jobs, caller, key, accepted: 0, refused: 0, lost: false }
    }

    /// How many were accepted, and how many refused.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.accepted, self.refused)
    }

    /// How many there were.
    pub(super) fn count(&self) -> usize {
        self.accepted + self.refused
    }

    /// Takes the next jobs and gives their results, in order, as JSON.
    ///
    /// # Errors
    /// If a result cannot be written as JSON: a mistake of the programmer.
    pub(super) async fn take(&mut self, items: &[Line]) -> Result<Vec<String>, Problem> {
        let first = self.count();
        let checks = items.iter().enumerate().map(|(place, item)| self.check(first + place, item).boxed());
        let checks: Vec<BoxFuture<'_, Checked>> = checks.collect();
        let checked: Vec<Checked> = stream::iter(checks).buffered(CHECKS).collect().await;
        let mut answers: Vec<Option<Answer>> = Vec::with_capacity(items.len());
        let mut by_queue: BTreeMap<QueueName, Share> = BTreeMap::new();
        for (place, checked) in checked.into_iter().enumerate() {
            match checked {
                Ok(job) => {
                    let (places, jobs) = by_queue.entry(job.0.queue().clone()).or_default();
                    places.push(place);
                    jobs.push(job);
                    answers.push(None);
                }
                Err(problem) => answers.push(Some(Err(problem))),
            }
        }
        for (queue, (places, jobs)) in by_queue {
            let pushed = self.push(&queue, &jobs).await;
            places.into_iter().zip(pushed).for_each(|(place, answer)| answers[place] = Some(answer));
        }
        let missing = || Err(Problem::internal("a job of many without an answer"));
        answers.into_iter().map(|answer| self.result(answer.unwrap_or_else(missing))).collect()
    }

    async fn check(&self, index: usize, item: &Line) -> Checked {
        let text = match item {
            Line::Whole(text) => text,
            Line::TooLong => return Err(body::too_large(body::MAX_BYTES)),
        };
        if self.lost {
            return Err(Problem::redis_unavailable("").without_inside());
        }
        let wanted: JobSubmission<'_> = body::parse(text)?;
        self.jobs.keeper.limits().count_kind(&wanted.kind, &self.caller).await?;
        // No key that a caller names holds a line feed.
        let key = self.key.as_ref().filter(|_| wanted.idempotency_key.is_none());
        check(&self.jobs, &self.caller, wanted, key.map(|key| format!("{key}\n{index}"))).await
    }

    /// Pushes jobs of one queue.
    async fn push(&mut self, queue: &QueueName, jobs: &[(JobId, Submission)]) -> Vec<Answer> {
        let pushed = match in_time(self.jobs.push_many(queue, jobs)).await {
            Ok(pushed) => pushed,
            Err(problem) => {
                self.lost |= problem.code() == Code::RedisUnavailable;
                problem.log();
                return jobs.iter().map(|_| Err(problem.without_inside())).collect();
            }
        };
        let mut answers = Vec::with_capacity(jobs.len());
        for answer in pushed {
            answers.push(self.seen(answer).await);
        }
        answers
    }

    /// A job that excludes its like is answered with only if the caller sees it.
    async fn seen(&self, answer: Result<Pushed, Refusal>) -> Answer {
        let pushed = answer?;
        if pushed.is_like
            && !self.caller.sees_all()
            && !self.jobs.get(&pushed.id).await?.is_some_and(|job| self.caller.sees_job(&job))
        {
            return Err(unseen_like());
        }
        Ok(pushed)
    }

    fn result(&mut self, answer: Answer) -> Result<String, Problem> {
        let pushed = match answer {
            Ok(pushed) => pushed,
            Err(problem) => return Ok(self.refuse(&problem)),
        };
        let result = BulkResult {
            index: self.count(),
            status: StatusCode::ACCEPTED.as_u16(),
            idempotency_replayed: pushed.existing() && !pushed.is_like,
            unique_conflict: pushed.is_like,
            id: Some(pushed.id),
            retry_after_s: None,
            error: None,
        };
        self.accepted += 1;
        serde_json::to_string(&result).map_err(Problem::internal)
    }

    /// The result of the next job, which is refused.
    pub(super) fn refuse(&mut self, problem: &Problem) -> String {
        problem.log();
        let result = BulkResult {
            index: self.count(),
            status: problem.status().as_u16(),
            id: None,
            idempotency_replayed: false,
            unique_conflict: false,
            retry_after_s: problem.retry_after_s(),
            error: Some(problem.document(ADDRESS)),
        };
        self.refused += 1;
        // Strings and numbers always become JSON.
        serde_json::to_string(&result).unwrap_or_default()
    }
}
