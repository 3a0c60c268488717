//! What became of runs.

use std::{sync::Arc, time::Duration};

use fourmi_model::{Envelope, ErrorClass, Failure, MAX_PAYLOAD_BYTES, NextStep, ParkReason, Policy, State};
use fourmi_queue::{Detail, Outcome, Settlement, Standing};
use salvo::{Depot, Request, Response, handler, http::StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::{
    Work,
    runs::{Answer, Batch, Item, Said, lease_lost, work_answer},
};
use crate::{
    body,
    caller::Caller,
    operation::state_of,
    problem::{Code, Problem},
    redis::in_time,
    routes::submission::{check_label, invalid},
};

/// The largest body, in bytes.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// How much of what is said of a failure is kept, in characters.
const MAX_MESSAGE_CHARS: usize = 2_000;
const MAX_CAUSE_CHARS: usize = 4_000;

/// The longest stage and code, in characters.
const MAX_WORD_CHARS: usize = 64;

/// The longest wait that a worker may ask for: thirty days.
const MAX_DELAY_MS: u64 = 30 * 86_400_000;

/// What became of runs.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SettleRequest<'a> {
    /// Of each run, how it ended.
    #[serde(borrow)]
    #[schemars(with = "Vec<RunEnd<'static>>", length(min = 1, max = 1_000))]
    outcomes: Vec<&'a RawValue>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum EndWord {
    /// The work is done; with `result`.
    Succeeded,
    /// With `code` and `message`; tried again unless `retryable` is false, after `retry_after_ms` if the other side asked
    /// for that. Also `class`, `stage` and `cause`.
    Failed,
    /// Not run to its end for a reason that is not the job's: it goes back, after `delay_ms`, and this was no attempt.
    Released,
    /// With a `reason` that must go away, and a `message`; no attempt.
    Parked,
    /// A caller asked to stop, and it did.
    Cancelled,
    /// It took its process down, with `message` and `cause`; no attempt, and the third time the job has failed.
    Crashed,
}

/// How a run ended.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RunEnd<'a> {
    /// The job.
    id: String,
    /// The number of the run.
    run: u64,
    /// How it ended.
    outcome: EndWord,
    /// What it gives; 64 KiB at most, larger data is a file.
    #[serde(borrow, default)]
    #[schemars(with = "Option<Value>")]
    result: Option<&'a RawValue>,
    /// A stable word that programs may rely on.
    #[serde(default)]
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[a-z][a-z0-9_]*$"))]
    code: Option<String>,
    /// For a person; 2,000 characters of it are kept.
    #[serde(default)]
    message: Option<String>,
    /// The sort of failure.
    #[serde(default)]
    class: Option<ErrorClass>,
    /// Whether another run could succeed; if nothing is said, it could.
    #[serde(default)]
    retryable: Option<bool>,
    /// Not tried again before this has passed, in milliseconds; it wins over the kind's backoff.
    #[serde(default)]
    #[schemars(range(max = 2_592_000_000_u64))]
    retry_after_ms: Option<u64>,
    /// The stage in which it failed.
    #[serde(default)]
    #[schemars(length(min = 1, max = 64))]
    stage: Option<String>,
    /// Technical detail; 4,000 characters of it are kept.
    #[serde(default)]
    cause: Option<String>,
    /// What it waits for.
    #[serde(default)]
    reason: Option<ParkReason>,
    /// Not leased again before this has passed, in milliseconds.
    #[serde(default)]
    #[schemars(range(max = 2_592_000_000_u64))]
    delay_ms: Option<u64>,
}

impl Item for RunEnd<'_> {
    fn run(&self) -> (&str, u64) {
        (&self.id, self.run)
    }

    /// What is next for a run that failed depends on the budget and the backoff of its job.
    fn detail(&self) -> Detail {
        match self.outcome {
            EndWord::Failed | EndWord::Crashed => Detail::Envelope,
            _ => Detail::None,
        }
    }

    fn check(&mut self) -> Result<(), Problem> {
        self.check_fields()?;
        if let Some(code) = &self.code {
            check_label("code", code, MAX_WORD_CHARS)?;
            let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            if !code.starts_with(|c: char| c.is_ascii_lowercase()) || !code.chars().all(fits) {
                return Err(invalid("code", "must be a word of lower-case letters, digits and '_'"));
            }
        }
        if let Some(stage) = &self.stage {
            check_label("stage", stage, MAX_WORD_CHARS)?;
        }
        for (field, ms) in [("retry_after_ms", self.retry_after_ms), ("delay_ms", self.delay_ms)] {
            if ms.is_some_and(|ms| ms > MAX_DELAY_MS) {
                return Err(invalid(field, format!("must be {MAX_DELAY_MS} (thirty days) at most")));
            }
        }
        cut(&mut self.message, MAX_MESSAGE_CHARS);
        cut(&mut self.cause, MAX_CAUSE_CHARS);
        Ok(())
    }
}

fn cut(text: &mut Option<String>, most: usize) {
    if let Some(text) = text
        && let Some((end, _)) = text.char_indices().nth(most)
    {
        text.truncate(end);
    }
}

impl RunEnd<'_> {
    /// Refuses fields that say nothing about such an end, which would be lost, and an end without those that it needs.
    fn check_fields(&self) -> Result<(), Problem> {
        let (needed, possible): (&[&str], &[&str]) = match self.outcome {
            EndWord::Succeeded => (&[], &["result"]),
            EndWord::Failed => (&["code", "message"], &["class", "retryable", "retry_after_ms", "stage", "cause"]),
            EndWord::Released => (&[], &["delay_ms"]),
            EndWord::Parked => (&["reason", "message"], &[]),
            EndWord::Cancelled => (&[], &[]),
            EndWord::Crashed => (&["message"], &["cause"]),
        };
        for (field, is_there) in [
            ("result", self.result.is_some()),
            ("code", self.code.is_some()),
            ("message", self.message.is_some()),
            ("class", self.class.is_some()),
            ("retryable", self.retryable.is_some()),
            ("retry_after_ms", self.retry_after_ms.is_some()),
            ("stage", self.stage.is_some()),
            ("cause", self.cause.is_some()),
            ("reason", self.reason.is_some()),
            ("delay_ms", self.delay_ms.is_some()),
        ] {
            if is_there && !needed.contains(&field) && !possible.contains(&field) {
                return Err(invalid(field, "says nothing about a run that ended so"));
            }
            if !is_there && needed.contains(&field) {
                return Err(invalid(field, "is missing"));
            }
        }
        Ok(())
    }

    /// How the queue writes it down.
    fn outcome(&self, work: &Work, caller: &Caller, standing: &Standing) -> Result<Outcome, Problem> {
        let keep = standing.retention.done;
        let message = || self.message.clone().unwrap_or_default();
        Ok(match self.outcome {
            EndWord::Succeeded => Outcome::Succeeded { result: self.written_result()?, keep },
            // As of a worker of our own: a run that was asked to stop and did not succeed has stopped.
            EndWord::Cancelled => Outcome::Cancelled { error: Failure::cancelled().report(), keep },
            EndWord::Failed | EndWord::Crashed | EndWord::Parked if standing.stop_requested => {
                Outcome::Cancelled { error: Failure::cancelled().report(), keep }
            }
            EndWord::Released => Outcome::Released { delay: Duration::from_millis(self.delay_ms.unwrap_or(0)) },
            EndWord::Parked => {
                let reason = self.reason.unwrap_or(ParkReason::Offline);
                Outcome::Parked { error: Failure::park(reason, message()).report(), reason, keep }
            }
            EndWord::Failed => Outcome::of_failure(&self.failure(), &policy(work, caller, standing), standing.attempts),
            EndWord::Crashed => {
                let mut failure = Failure::retry("process_died", message()).class(ErrorClass::Internal);
                failure.cause.clone_from(&self.cause);
                let delay = policy(work, caller, standing).backoff.delay(standing.crashes + 1, rand::random());
                Outcome::Crashed { error: failure.report(), delay, keep: standing.retention.failed }
            }
        })
    }

    /// The result in one writing; nothing for `null`.
    fn written_result(&self) -> Result<String, Problem> {
        let Some(result) = self.result else { return Ok(String::new()) };
        let value: Value = serde_json::from_str(result.get()).map_err(|error| invalid("result", error.to_string()))?;
        let written = if value.is_null() { String::new() } else { value.to_string() };
        if written.len() <= MAX_PAYLOAD_BYTES {
            return Ok(written);
        }
        let detail =
            format!("A result may have {MAX_PAYLOAD_BYTES} bytes at most; store larger data as a file and name it.");
        Err(Problem::new(Code::PayloadTooLarge, detail))
    }

    fn failure(&self) -> Failure {
        let (code, message) = (self.code.clone().unwrap_or_default(), self.message.clone().unwrap_or_default());
        let mut failure = match self.retryable {
            Some(false) => Failure::permanent(code, message),
            _ => Failure::retry(code, message),
        };
        if let NextStep::Retry { after_ms } = &mut failure.next {
            *after_ms = self.retry_after_ms;
        }
        failure.class = self.class.unwrap_or(failure.class);
        failure.stage.clone_from(&self.stage);
        failure.cause.clone_from(&self.cause);
        failure
    }

    /// Whether a run that is not going on any more has ended so, as far as its job tells.
    fn has_ended_so(&self, said: &Said<Self>) -> bool {
        let Standing { state, run, .. } = said.standing;
        run == said.run.number
            && match self.outcome {
                EndWord::Succeeded => state == State::Succeeded,
                EndWord::Failed | EndWord::Crashed => {
                    matches!(state, State::Failed | State::Retrying | State::Cancelled)
                }
                EndWord::Released => matches!(state, State::Waiting | State::Scheduled | State::Cancelled),
                EndWord::Parked => matches!(state, State::Parked | State::Cancelled),
                EndWord::Cancelled => state == State::Cancelled,
            }
    }
}

fn policy(work: &Work, caller: &Caller, standing: &Standing) -> Policy {
    let of = |envelope: &Envelope| work.policy(caller, envelope);
    Policy { retention: standing.retention, ..standing.envelope.as_ref().map(of).unwrap_or_default() }
}

#[handler]
pub(super) async fn settle_runs(
    request: &mut Request,
    depot: &mut Depot,
    response: &mut Response,
) -> Result<(), Problem> {
    let work: Arc<Work> = state_of(depot)?;
    let caller = Caller::of(depot)?;
    let sent: SettleRequest<'_> = body::parse(body::read_up_to(request, MAX_BYTES).await?)?;
    let Batch { said, mut answers } = Batch::<RunEnd<'_>>::read(&work, &caller, "outcomes", &sent.outcomes).await?;

    let mut places = Vec::with_capacity(said.len());
    let mut settlements = Vec::with_capacity(said.len());
    for said in said {
        if !said.is_held() {
            answers[said.index] = Some(if said.item.has_ended_so(&said) { Answer::Before } else { lost() });
            continue;
        }
        match said.item.outcome(&work, &caller, &said.standing) {
            Ok(outcome) => {
                settlements.push(Settlement { run: said.run, outcome });
                places.push(said.index);
            }
            Err(problem) => answers[said.index] = Some(Answer::Refused(problem)),
        }
    }
    let written = in_time(work.external.transitions().settle(&settlements)).await?;
    let mut refused = Vec::new();
    for (index, written) in places.into_iter().zip(written) {
        match written {
            true => answers[index] = Some(Answer::Counts { stop_requested: false }),
            false => refused.push(index),
        }
    }
    // It ended in this moment: by the same words, sent twice, or otherwise.
    if !refused.is_empty() {
        let again: Vec<&RawValue> = refused.iter().map(|index| sent.outcomes[*index]).collect();
        let batch = Batch::<RunEnd<'_>>::read(&work, &caller, "outcomes", &again).await?;
        for said in batch.said {
            let answer = if said.item.has_ended_so(&said) { Answer::Before } else { lost() };
            answers[refused[said.index]] = Some(answer);
        }
        // Its job was forgotten meanwhile.
        for index in refused {
            answers[index].get_or_insert_with(lost);
        }
    }
    body::write(response, StatusCode::OK, &work_answer(answers)?)
}

fn lost() -> Answer {
    Answer::Refused(lease_lost())
}
