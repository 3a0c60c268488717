//! The jobs that a submission waits for: whether there are such, and what became of those that the queues have forgotten.

use std::collections::{BTreeMap, HashSet};

use fourmi_kinds::catalogue;
use fourmi_model::{Job, JobId, MAX_PARENTS, ParentFailure, ParentOutcome, State};
use futures_util::future::try_join_all;

use crate::{
    caller::Caller,
    problem::{Code, Problem},
    redis::in_time,
    routes::{jobs::Jobs, submission::invalid},
};

/// Results that are larger stay where they are, in bytes.
const MAX_RESULT: usize = 64 * 1024;

/// Jobs that Redis is asked about at once.
const BATCH: usize = 500;

/// Jobs that are read at once.
const READS: usize = 32;

/// The ids in `after`.
pub(super) fn ids(after: &[String]) -> Result<Vec<JobId>, Problem> {
    check_number(after)?;
    let id = |(index, text): (usize, &String)| text.parse().map_err(|_| unknown(format!("after[{index}]"), text));
    after.iter().enumerate().map(id).collect()
}

/// Whether `after` names few enough jobs, and none twice.
pub(super) fn check_number(after: &[String]) -> Result<(), Problem> {
    if after.len() > MAX_PARENTS {
        return Err(invalid("after", format!("must be {MAX_PARENTS} at most")));
    }
    let mut met = HashSet::new();
    let twice = after.iter().position(|name| !met.insert(name));
    twice.map_or(Ok(()), |index| Err(invalid(format!("after[{index}]"), "is there twice")))
}

pub(super) fn unknown(path: impl Into<String>, name: &str) -> Problem {
    let name: String = name.chars().take(120).collect();
    Problem::field(Code::UnknownParent, path, format!("there is no job {name}"))
}

/// Looks up jobs, each with the path that names it and what becomes of the one that waits if it does not succeed. Gives
/// what became of those of which there is only a record.
pub(super) async fn look_up(
    jobs: &Jobs,
    caller: &Caller,
    named: Vec<(String, &JobId, ParentFailure)>,
) -> Result<Vec<(JobId, ParentOutcome)>, Problem> {
    let known = catalogue().queues();
    if let Some((path, id, _)) = named.iter().find(|(_, id, _)| !known.contains(id.queue())) {
        return Err(unknown(path, &id.to_string()));
    }
    let ids: Vec<JobId> = named.iter().map(|(_, id, _)| (*id).clone()).collect();
    if let Some(foreign) = first_unseen(jobs, caller, &ids).await? {
        return Err(unknown(&named[foreign].0, &ids[foreign].to_string()));
    }
    let mut there = Vec::with_capacity(ids.len());
    for ids in ids.chunks(BATCH) {
        there.extend(in_time(jobs.queues.are_there(ids)).await?);
    }
    let mut outcomes = BTreeMap::new();
    for ((path, id, policy), _) in named.into_iter().zip(there).filter(|(_, there)| !there) {
        let record = jobs.record(id).await?.ok_or_else(|| unknown(&path, &id.to_string()))?;
        if record.job.state != State::Succeeded && policy != ParentFailure::Run {
            let message = format!("{id} is {}, and too old to be run again", record.job.state);
            return Err(Problem::field(Code::UnknownParent, path, message));
        }
        outcomes.insert(id.clone(), outcome(record.job));
    }
    Ok(outcomes.into_iter().collect())
}

/// The place of the first of these jobs that the caller does not see.
async fn first_unseen(jobs: &Jobs, caller: &Caller, ids: &[JobId]) -> Result<Option<usize>, Problem> {
    if caller.sees_all() {
        return Ok(None);
    }
    let mut looked_at = 0;
    for ids in ids.chunks(READS) {
        let read: Vec<_> = ids.iter().map(|id| jobs.get(id)).collect();
        let read = try_join_all(read).await?;
        if let Some(place) = read.iter().position(|job| !job.as_ref().is_some_and(|job| caller.sees_job(job))) {
            return Ok(Some(looked_at + place));
        }
        looked_at += ids.len();
    }
    Ok(None)
}

/// What became of a job that is over.
pub(super) fn outcome(job: Job) -> ParentOutcome {
    let size = job.result.as_ref().map_or(0, |result| result.to_string().len());
    let left_out = size > MAX_RESULT;
    ParentOutcome { state: job.state, result: job.result.filter(|_| !left_out), error: job.error, left_out }
}
