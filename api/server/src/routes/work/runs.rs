//! Requests about many runs, each of which is answered by itself.

use fourmi_model::{JobId, QueueName, State};
use fourmi_queue::{Detail, Run, Standing};
use salvo::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::Work;
use crate::{
    body,
    caller::Caller,
    problem::{Code, Document, Problem},
    redis::in_time,
    routes::{jobs::unknown_job, submission::invalid},
};

/// The most runs of a request.
const MAX_RUNS: usize = 1_000;

/// The address of these requests.
const ADDRESS: &str = "/api/v1/work";

/// A run, as its worker names it.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunName {
    /// The job.
    id: String,
    /// The number of the run.
    run: u64,
}

/// What is said of a run.
pub(super) trait Item {
    /// The job, and the number of the run.
    fn run(&self) -> (&str, u64);

    /// What is wanted of the run beside how it stands.
    fn detail(&self) -> Detail {
        Detail::None
    }

    /// What is wrong with it, whatever run it is about.
    fn check(&mut self) -> Result<(), Problem> {
        Ok(())
    }
}

impl Item for RunName {
    fn run(&self) -> (&str, u64) {
        (&self.id, self.run)
    }

    fn detail(&self) -> Detail {
        Detail::Envelope
    }
}

/// What became of each thing that was said.
#[derive(Serialize, JsonSchema)]
pub(crate) struct WorkAnswer {
    /// In the order in which they were sent.
    #[schemars(with = "Vec<WorkResult<'static>>")]
    results: Vec<Box<RawValue>>,
}

/// What became of one.
#[derive(Serialize, JsonSchema)]
pub(super) struct WorkResult<'a> {
    /// Which: the number of those before it.
    index: usize,
    /// The HTTP status that it would have alone: 200 if it counts.
    status: u16,
    /// Whether a caller asked to stop the job: its worker should, and settle it as `cancelled`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cancel_requested: bool,
    /// Whether the run was settled so already; nothing was changed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    settled_before: bool,
    /// Why it does not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Document<'a>>,
}

/// What is answered to one thing that was said.
pub(super) enum Answer {
    /// It counts.
    Counts {
        /// Whether a caller asked to stop the job.
        stop_requested: bool,
    },
    /// It was said before.
    Before,
    /// It does not count.
    Refused(Problem),
}

/// One thing that was said, about a run of the caller's tenant.
pub(super) struct Said<T> {
    /// Its place in the request.
    pub(super) index: usize,
    pub(super) run: Run,
    pub(super) item: T,
    pub(super) standing: Standing,
}

impl<T> Said<T> {
    /// Whether the run goes on.
    pub(super) fn is_held(&self) -> bool {
        self.standing.state == State::Running && self.standing.run == self.run.number
    }

    pub(super) fn counts(&self) -> Answer {
        Answer::Counts { stop_requested: self.standing.stop_requested }
    }
}

/// The things that a request says, and the answers to those that are answered already.
pub(super) struct Batch<T> {
    pub(super) said: Vec<Said<T>>,
    pub(super) answers: Vec<Option<Answer>>,
}

impl<T: Item> Batch<T> {
    /// Reads what was said, and how things stand with the runs that it is about. What concerns no run of the caller's
    /// tenant is answered as if there were none.
    ///
    /// # Errors
    /// If there is nothing or too much, or Redis does not answer.
    pub(super) async fn read<'a>(
        work: &Work,
        caller: &Caller,
        field: &str,
        sent: &[&'a RawValue],
    ) -> Result<Self, Problem>
    where
        T: Deserialize<'a>,
    {
        if sent.is_empty() || sent.len() > MAX_RUNS {
            return Err(invalid(field, format!("must be 1 to {MAX_RUNS}")));
        }
        let mut answers = Vec::with_capacity(sent.len());
        let mut items = Vec::with_capacity(sent.len());
        for (index, sent) in sent.iter().enumerate() {
            let answer = match read_one::<T>(sent) {
                Ok((run, item)) => {
                    items.push((index, run, item));
                    None
                }
                Err(problem) => Some(Answer::Refused(problem)),
            };
            answers.push(answer);
        }
        let wanted: Vec<(Uuid, Detail)> = items.iter().map(|(_, run, item)| (run.job, item.detail())).collect();
        let standings = in_time(work.external.standings(&wanted)).await?;
        let mut said = Vec::with_capacity(items.len());
        for ((index, run, item), standing) in items.into_iter().zip(standings) {
            match standing.filter(|standing| standing.tenant.as_ref() == caller.tenant()) {
                Some(standing) => said.push(Said { index, run, item, standing }),
                None => answers[index] = Some(Answer::Refused(unknown_job())),
            }
        }
        Ok(Self { said, answers })
    }

    /// Answers what is about runs that do not go on any more, and leaves the others.
    pub(super) fn refuse_lost(&mut self) {
        let (held, lost): (Vec<_>, Vec<_>) = self.said.drain(..).partition(Said::is_held);
        self.said = held;
        for said in lost {
            self.answers[said.index] = Some(Answer::Refused(lease_lost()));
        }
    }

    /// Answers those that are left: whether each counts.
    pub(super) fn answer_rest(&mut self, counts: Vec<bool>) {
        for (said, counts) in std::mem::take(&mut self.said).into_iter().zip(counts) {
            let answer = if counts { said.counts() } else { Answer::Refused(lease_lost()) };
            self.answers[said.index] = Some(answer);
        }
    }
}

/// One thing that was said, and the run that it is about.
fn read_one<'a, T: Item + Deserialize<'a>>(sent: &'a RawValue) -> Result<(Run, T), Problem> {
    let mut item: T = body::parse(sent.get().as_bytes())?;
    item.check()?;
    let (id, number) = item.run();
    // What is no id, or one of a queue of our own workers, is no job that is leased here.
    let id: Option<JobId> = id.parse().ok().filter(|id: &JobId| *id.queue() == QueueName::external());
    let run = Run { job: id.ok_or_else(unknown_job)?.uuid(), number };
    Ok((run, item))
}

pub(super) fn lease_lost() -> Problem {
    Problem::new(Code::LeaseLost, "Stop it: its lease ran out and the job is another's, or the run is over.")
}

/// The answers as they are sent.
///
/// # Errors
/// If one is missing or cannot be written: a mistake of the programmer.
pub(super) fn results(answers: Vec<Option<Answer>>) -> Result<Vec<Box<RawValue>>, Problem> {
    let write = |(index, answer): (usize, Option<Answer>)| {
        let answer = answer.ok_or_else(|| Problem::internal("a run of many without an answer"))?;
        let mut result = WorkResult {
            index,
            status: StatusCode::OK.as_u16(),
            cancel_requested: false,
            settled_before: false,
            error: None,
        };
        let problem;
        match answer {
            Answer::Counts { stop_requested } => result.cancel_requested = stop_requested,
            Answer::Before => result.settled_before = true,
            Answer::Refused(refused) => {
                problem = refused;
                problem.log();
                result.status = problem.status().as_u16();
                result.error = Some(problem.document(ADDRESS));
            }
        }
        serde_json::value::to_raw_value(&result).map_err(Problem::internal)
    };
    answers.into_iter().enumerate().map(write).collect()
}

/// The answers as a body.
///
/// # Errors
/// As [`results`].
pub(super) fn work_answer(answers: Vec<Option<Answer>>) -> Result<WorkAnswer, Problem> {
    Ok(WorkAnswer { results: results(answers)? })
}
