//! Jobs as Redis holds them, read into documents; and lists of them.

use std::collections::{BTreeMap, HashMap};

use fourmi_model::{
    Envelope, ErrorReport, Job, JobId, JobRecord, LogLine, LogPage, MAX_LOG_LINES, ParkReason, Priority, QueueName,
    RunReport, State,
};
use jiff::Timestamp;
use redis::Value;
use uuid::Uuid;

use crate::{Counts, QueueError, link::Link, scripts};

/// The lanes' numbers, in the order of [`Priority::ALL`].
pub(crate) fn priority_number(priority: Priority) -> usize {
    Priority::ALL.iter().position(|other| *other == priority).unwrap_or(2)
}

pub(crate) fn meta_key(queue: &QueueName) -> String {
    format!("{{{queue}}}:m")
}

pub(crate) fn key(queue: &QueueName, name: impl std::fmt::Display) -> String {
    format!("{{{queue}}}:{name}")
}

/// Reads jobs, each at one moment; `None` for one that is not there.
pub(crate) async fn jobs(link: &Link, queue: &QueueName, ids: &[Uuid]) -> Result<Vec<Option<Job>>, QueueError> {
    let mut jobs = Vec::with_capacity(ids.len());
    for chunk in ids.chunks(200) {
        let mut call = scripts::GET.key(meta_key(queue));
        for id in chunk {
            call.arg(id.hyphenated().to_string());
        }
        let rows: Vec<Row> = link.invoke(&call).await?;
        for (id, row) in chunk.iter().zip(rows) {
            jobs.push(document(JobId::from_parts(queue.clone(), *id), row)?);
        }
    }
    Ok(jobs)
}

/// The versions of jobs, each with the number of the newest line of its log; `None` for one that is not there.
pub(crate) async fn versions(link: &Link, ids: &[JobId]) -> Result<Vec<Option<(u64, u64)>>, QueueError> {
    let asked = ids.iter().map(|id| async move {
        let hash = key(id.queue(), format_args!("j:{}", id.uuid().hyphenated()));
        let (state, version, newest_line): (Option<String>, Option<u64>, Option<u64>) =
            link.query(redis::cmd("HMGET").arg(hash).arg("state").arg("ver").arg("log")).await?;
        Ok(state.map(|_| (version.unwrap_or(1), newest_line.unwrap_or(0))))
    });
    // One multiplexed connection: all questions are under way at once.
    futures_util::future::try_join_all(asked).await
}

/// The lines of a job's log after the line of that number, `limit` at most; `None` if there is no such job.
pub(crate) async fn log(link: &Link, id: &JobId, after: u64, limit: usize) -> Result<Option<LogPage>, QueueError> {
    let mut call = scripts::LINES.key(meta_key(id.queue()));
    // Numbers beyond this are beyond every log, and Lua would round them.
    let place = after.min(1 << 53);
    call.arg(id.uuid().hyphenated().to_string()).arg(place).arg(limit.clamp(1, MAX_LOG_LINES));
    let answer: Vec<Value> = link.invoke(&call).await?;
    let [newest, lines @ ..] = answer.as_slice() else {
        return Err(QueueError::Corrupt(format!("the log of job {id}")));
    };
    let Ok(newest) = u64::try_from(number(newest)) else { return Ok(None) };
    let lines = lines.iter().map(|line| log_line(text(line)));
    let lines: Vec<LogLine> =
        lines.collect::<Option<_>>().ok_or_else(|| QueueError::Corrupt(format!("the log of job {id}")))?;
    let next = lines.last().map_or(after.min(newest), |line| line.n);
    let missed = lines.first().map_or(0, |first| first.n.saturating_sub(after.saturating_add(1)));
    Ok(Some(LogPage { lines, next, missed }))
}

/// '<n> <ms> <run> <level> <text>'
pub(crate) fn log_line(line: &str) -> Option<LogLine> {
    let mut parts = line.splitn(5, ' ');
    Some(LogLine {
        n: parts.next()?.parse().ok()?,
        time: timestamp(parts.next()?.parse().ok()?)?,
        run: parts.next()?.parse().ok()?,
        level: parts.next()?.parse().ok()?,
        text: parts.next()?.to_owned(),
    })
}

/// The hash, the envelope, the result or error, the progress.
pub(crate) type Row = (HashMap<String, String>, Option<String>, Option<String>, Option<String>);

pub(crate) fn document(id: JobId, (hash, envelope, outcome, progress): Row) -> Result<Option<Job>, QueueError> {
    let Some(envelope) = envelope.filter(|_| !hash.is_empty()) else { return Ok(None) };
    let corrupt = |what: &str| QueueError::Corrupt(format!("{what} of job {id}"));
    let envelope: Envelope = serde_json::from_str(&envelope).map_err(|_| corrupt("envelope"))?;
    let text = |name: &str| hash.get(name).map(String::as_str);
    let number = |name: &str| text(name).and_then(|text| text.parse::<u64>().ok());
    let time = |name: &str| number(name).and_then(timestamp);
    let state: State = text("state").and_then(|word| word.parse().ok()).ok_or_else(|| corrupt("state"))?;

    let parked_reason: Option<ParkReason> = match text("reason").filter(|_| state == State::Parked) {
        Some(word) => Some(word.parse().map_err(|_| corrupt("park reason"))?),
        None => None,
    };

    let (mut result, mut error) = (None, None);
    match outcome {
        Some(json) if state == State::Succeeded => {
            result = Some(serde_json::from_str(&json).map_err(|_| corrupt("result"))?);
        }
        Some(json) => error = Some(serde_json::from_str(&json).map_err(|_| corrupt("error"))?),
        None => {}
    }
    // The progress of an earlier run says nothing about this one.
    let progress = progress
        .as_deref()
        .and_then(|line| line.split_once(' '))
        .and_then(|(run, json)| (Some(run) == text("run")).then(|| serde_json::from_str(json).ok()).flatten());
    let payload = serde_json::from_str(envelope.payload.get()).map_err(|_| corrupt("payload"))?;
    Ok(Some(Job {
        kind: envelope.kind,
        schema_version: envelope.schema_version,
        queue: id.queue().clone(),
        id,
        state,
        version: number("ver").unwrap_or(1),
        priority: number("prio").and_then(|n| Priority::ALL.get(usize::try_from(n).ok()?).copied()).unwrap_or_default(),
        tenant: text("grp").and_then(|name| name.parse().ok()),
        limits: text("keys").unwrap_or_default().split_whitespace().filter_map(|name| name.parse().ok()).collect(),
        tags: envelope.tags,
        correlation_id: envelope.correlation_id,
        run: number("run").unwrap_or(0),
        attempts: number("att").and_then(|n| n.try_into().ok()).unwrap_or(0),
        crashes: number("crash").and_then(|n| n.try_into().ok()).unwrap_or(0),
        created_at: time("at").unwrap_or_default(),
        due_at: time("due").filter(|_| matches!(state, State::Scheduled | State::Retrying | State::Blocked)),
        started_at: time("start"),
        finished_at: time("end").filter(|_| state.is_final()),
        deadline: envelope.deadline,
        after: envelope.after,
        on_parent_failure: envelope.on_parent_failure,
        parent: envelope.parent,
        batch: envelope.batch,
        submitted_by: envelope.submitted_by,
        webhook: envelope.webhook,
        worker: text("worker").filter(|_| state == State::Running).map(str::to_owned),
        parked_reason,
        cancel_requested: state == State::Running && hash.contains_key("cancel"),
        log_lines: number("log").unwrap_or(0),
        progress,
        result,
        error,
        payload,
        archived: false,
    }))
}

pub(crate) fn timestamp(ms: u64) -> Option<Timestamp> {
    Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok()
}

/// The runs of a job that did not succeed, oldest first.
pub(crate) async fn runs(link: &Link, id: &JobId) -> Result<Vec<RunReport>, QueueError> {
    let tries = key(id.queue(), format_args!("tries:{}", id.uuid().hyphenated()));
    let lines: Vec<String> = link.query(redis::cmd("LRANGE").arg(tries).arg(0).arg(-1)).await?;
    lines.iter().map(|line| run_report(line).ok_or_else(|| QueueError::Corrupt(format!("a run of job {id}")))).collect()
}

/// '<run> <worker> <start> <end> <error>'
fn run_report(line: &str) -> Option<RunReport> {
    let mut parts = line.splitn(5, ' ');
    let (run, worker) = (parts.next()?.parse().ok()?, parts.next()?.to_owned());
    let (start, end): (u64, u64) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    Some(RunReport {
        run,
        worker,
        started_at: timestamp(start)?,
        ended_at: timestamp(end)?,
        duration_ms: end.saturating_sub(start),
        error: serde_json::from_str::<ErrorReport>(parts.next()?).ok()?,
    })
}

/// The record of a finished job from the fields of its entry in the outbox.
pub(crate) fn record(queue: &QueueName, mut fields: HashMap<String, String>) -> Result<JobRecord, QueueError> {
    let mut take = |name: &str| fields.remove(name).unwrap_or_default();
    let (id, hash, envelope, outcome, tries) =
        (take("id"), take("hash"), take("envelope"), take("outcome"), take("tries"));
    let progress = fields.remove("progress");
    let lines: Vec<&str> = hash.lines().collect();
    let pairs = lines.chunks_exact(2).map(|pair| (pair[0].to_owned(), pair[1].to_owned()));
    let hash: HashMap<String, String> = pairs.collect();
    let uuid = Uuid::try_parse(&id).map_err(|_| QueueError::Corrupt(format!("the job id {id:?} in the outbox")))?;
    let id = JobId::from_parts(queue.clone(), uuid);
    let runs =
        tries.lines().map(|line| run_report(line).ok_or_else(|| QueueError::Corrupt(format!("a run of job {id}"))));
    let runs = runs.collect::<Result<_, _>>()?;
    let worker = hash.get("worker").cloned();
    let waited_ms = waited_ms(&hash);
    let outcome = Some(outcome).filter(|text| !text.is_empty());
    let missing = || QueueError::Corrupt(format!("the entry of job {id} in the outbox"));
    let job = document(id.clone(), (hash, Some(envelope), outcome, progress))?.ok_or_else(missing)?;
    Ok(JobRecord { job, worker, waited_ms, runs })
}

/// A job waits since it was accepted or, if that was later, since it became due. One that was to run again and did not is due
/// after its newest run.
fn waited_ms(hash: &HashMap<String, String>) -> Option<u64> {
    let number = |name: &str| hash.get(name).and_then(|text| text.parse::<u64>().ok());
    number("start")?.checked_sub(number("at")?.max(number("due").unwrap_or(0)))
}

pub(crate) async fn counts(link: &Link, queue: &QueueName) -> Result<Counts, QueueError> {
    let mut command = redis::cmd("HMGET");
    command.arg(meta_key(queue));
    for state in State::ALL {
        command.arg(format!("n:{state}"));
    }
    let numbers: Vec<Option<i64>> = link.query(&command).await?;
    let counted = State::ALL.iter().zip(numbers);
    Ok(Counts(counted.map(|(state, n)| (*state, n.unwrap_or(0).max(0).unsigned_abs())).collect::<BTreeMap<_, _>>()))
}

pub(crate) fn parked_index(reason: ParkReason) -> &'static str {
    match reason {
        ParkReason::NotConfigured => "parked:not_configured",
        ParkReason::Offline => "parked:offline",
        ParkReason::ProviderDown => "parked:provider_down",
        ParkReason::Uncertain => "parked:uncertain",
    }
}

/// How many jobs are parked for each reason that has some.
pub(crate) async fn parked(link: &Link, queue: &QueueName) -> Result<BTreeMap<ParkReason, u64>, QueueError> {
    let counted = ParkReason::ALL.iter().map(|reason| async move {
        let count = link.query::<u64>(redis::cmd("ZCARD").arg(key(queue, parked_index(*reason)))).await?;
        Ok::<_, QueueError>((*reason, count))
    });
    let counted = futures_util::future::try_join_all(counted).await?;
    Ok(counted.into_iter().filter(|(_, count)| *count > 0).collect())
}

/// A reply of Redis as text.
pub(crate) fn text(value: &Value) -> &str {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).unwrap_or(""),
        Value::SimpleString(text) => text,
        _ => "",
    }
}

/// A reply of Redis as a number.
pub(crate) fn number(value: &Value) -> i64 {
    match value {
        Value::Int(number) => *number,
        other => text(other).parse().unwrap_or(0),
    }
}
