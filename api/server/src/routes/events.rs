//! Streams of what happens: to one job, to a batch, to all jobs that a caller sees.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use fourmi_kinds::catalogue;
use fourmi_model::{BATCH_KIND, Job, JobId, KindName, QueueName, Scope, State, TenantName};
use fourmi_queue::{JobFilter, Selection};
use futures_util::stream;
use jiff::Timestamp;
use salvo::{
    Depot, Request, Response, handler,
    http::{Method, StatusCode},
};
use schemars::{Schema, SchemaGenerator, json_schema};

use crate::{
    caller::Caller,
    operation::{EVENT_STREAM, Operation, Place, schema, state_of},
    problem::{Code, Problem},
    query::Query,
    redis::in_time,
    routes::jobs::{Jobs, identified, job_id, unknown_job},
    sse::{self, ManyJobs, OVER, OneJob, Seen, Teller, Vocabulary},
};

pub(super) fn operations() -> Vec<Operation> {
    vec![
        stream_of(identified("follow_job", Method::GET, "/api/v1/jobs/{id}/events", follow_job))
            .needs(&[Scope::JobsRead, Scope::PublicRead])
            .says("Follows a job", JOB)
            .takes(Place::Query, "log_after", schema::<u64>, "Also the lines of the log after the one of this number (0: all that are kept). Without it, those from now on.")
            .answers_empty(StatusCode::NO_CONTENT, "The job is over, and you have its last event."),
        stream_of(identified("follow_batch", Method::GET, "/api/v1/flows/{id}/events", follow_batch))
            .needs(&[Scope::JobsRead])
            .says("Follows a batch", BATCH)
            .answers_empty(StatusCode::NO_CONTENT, "The batch is over, and you have its last event.")
            .fails(&[Code::UnknownBatch]),
        stream_of(Operation::new("follow_jobs", Method::GET, "/api/v1/events", follow_jobs))
            .needs(&[Scope::JobsRead])
            .says("Follows all jobs", ALL)
            .takes(Place::Query, "state", schema::<Vec<State>>, "Only these states: a job that enters another one is left out then.")
            .takes(Place::Query, "kind", schema::<KindName>, "Only this kind.")
            .takes(Place::Query, "queue", schema::<QueueName>, "Only this queue.")
            .takes(Place::Query, "tag", schema::<String>, "Only jobs with this tag.")
            .takes(Place::Query, "tenant", schema::<TenantName>, "Only jobs of this tenant.")
            .fails(&[Code::RedisUnavailable]),
    ]
}

fn stream_of(operation: Operation) -> Operation {
    operation
        .takes(Place::Header, "Last-Event-ID", schema::<String>, "The newest event that you have; nonsense is ignored.")
        .takes(Place::Query, "vocabulary", schema::<Vocabulary>, VOCABULARY)
        .answers(StatusCode::OK, EVENT_STREAM, events, "The events.")
        .fails(&[Code::InvalidQuery, Code::TooManyStreams])
}

/// What the events are is said in words: OpenAPI 3.1 has none for a stream of them.
fn events(_: &mut SchemaGenerator) -> Schema {
    json_schema!({})
}

const VOCABULARY: &str = "The names of the events: those that are described here, or, with `processing`, `processing_started`, \
    `processing_progress`, `processing_completed`, `rag_completed` and `processing_error`, whose data has the same `type`.";

const JOB: &str = "Server-sent events. The first is `snapshot` (the job), unless `Last-Event-ID` is its version; then come `state` (the job), \
    `progress` (`{id, version, run, progress}`; a slow reader gets the newest, not all) and `log` (a line of the log: each once, in order; \
    `missed` says how many before it are gone; only for keys that may read jobs). The id of an event is the job's version, a dot, and the \
    number of the newest line of its log. A comment comes when nothing has happened for 15 seconds. The stream closes after the job's final state.";

const BATCH: &str = "Server-sent events about a batch (or that of the job that is named) and its members: `snapshot` for each, `live` \
    (`{jobs, more}`) when all have been given, then `state` and `progress` as of one job. Where something was missed, a `gap` \
    (`{since, missed, reason}`) says so, and the snapshots of those that are not over come again. The stream closes after the final state of \
    the batch, which comes after those of its members.";

const ALL: &str = "Server-sent events about all jobs that you see and want: `snapshot` for each that is not over (200 at most), `live` \
    (`{jobs, more}`: whether there were more), then `state` and `progress` as of one job. Where something was missed (you were away and sent \
    `Last-Event-ID`, read too slowly, or Redis was away), a `gap` (`{since, missed, reason}`) says so; snapshots come again then, also \
    of jobs that have ended since (200 at most), and `live`.";

#[handler]
async fn follow_job(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let (jobs, caller): (Arc<Jobs>, _) = (state_of(depot)?, Caller::of(depot)?);
    let query = Query::of(request, &["log_after", "vocabulary"])?;
    let (log_after, mut teller) = (query.one("log_after")?, teller(&query)?);
    let permit = jobs.streams.admit(&caller)?;
    let id = job_id(request)?;
    let seen = sse::last_event_id(request.headers()).and_then(Seen::read);
    let watched = in_time(jobs.watcher.watch(&id)).await?;
    let job = match &watched {
        Some((job, _)) => Some(job.clone()),
        None => jobs.record(&id).await?.map(|record| record.job),
    };
    let job = job.filter(|job| caller.sees_job(job)).ok_or_else(unknown_job)?;
    let reads_log = caller.may(Scope::JobsRead);
    if seen.is_some_and(|seen| Seen { line: seen.line.filter(|_| reads_log), ..seen }.is_all_of(&job)) {
        nothing_more(response);
        return Ok(());
    }
    let Some((_, mut watch)) = watched else {
        let place = sse::Place::of_job(&job).to_string();
        let events = teller.tell(&sse::Told::Snapshot(caller.show(job)), Some(place));
        sse::answer(response, stream::iter(events), permit, jobs.stop.clone());
        return Ok(());
    };
    if !reads_log {
        watch.without_log();
    } else if let Some(line) = seen.and_then(|seen| seen.line).or(log_after) {
        watch.log_after(line);
    }
    // An id that is ahead of the job belongs to something else: such a client needs the snapshot too.
    let has_it = seen.map(|seen| seen.version) == Some(job.version);
    let events = OneJob { id, watch, caller, teller }.events(job, has_it);
    sse::answer(response, events, permit, jobs.stop.clone());
    Ok(())
}

#[handler]
async fn follow_batch(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let (jobs, caller): (Arc<Jobs>, _) = (state_of(depot)?, Caller::of(depot)?);
    let mut teller = teller(&Query::of(request, &["vocabulary"])?)?;
    let permit = jobs.streams.admit(&caller)?;
    let batch = batch(&jobs, &caller, &job_id(request)?).await?;
    let last = sse::last_event_id(request.headers());
    if batch.state.is_final() && last == Some(OVER) {
        nothing_more(response);
        return Ok(());
    }
    if batch.archived {
        let events = teller.tell(&sse::Told::Snapshot(caller.show(batch)), Some(OVER.to_owned()));
        sse::answer(response, stream::iter(events), permit, jobs.stop.clone());
        return Ok(());
    }
    let members: BTreeSet<JobId> = in_time(jobs.queues.members(&batch.id)).await?.into_iter().collect();
    let ids: HashSet<_> = members.iter().chain([&batch.id]).map(JobId::uuid).collect();
    let feed = in_time(jobs.watcher.feed(Selection::These(ids))).await?;
    let scope = sse::Scope::Batch(batch.id, members);
    // The snapshot is of all members, whatever was seen of them before.
    follow_many(response, &jobs, (caller, teller), (feed, scope), None, permit).await
}

#[handler]
async fn follow_jobs(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let (jobs, caller): (Arc<Jobs>, _) = (state_of(depot)?, Caller::of(depot)?);
    let query = Query::of(request, &["state", "kind", "queue", "tag", "tenant", "vocabulary"])?;
    let filter = JobFilter {
        states: query.many("state")?,
        kind: query.one("kind")?,
        tag: query.one("tag")?,
        tenant: query.one("tenant")?,
        ..JobFilter::default()
    };
    let queue: Option<QueueName> = query.one("queue")?;
    let teller = teller(&query)?;
    let permit = jobs.streams.admit(&caller)?;
    let since = sse::last_event_id(request.headers()).and_then(moment);
    let (selection, scope) = match caller.narrow(filter) {
        Some(filter) => {
            let queues = queue.clone().map_or_else(|| catalogue().queues(), |queue| vec![queue]);
            (Selection::Matching(queue, filter.clone()), sse::Scope::All(queues, filter))
        }
        // What it asks for is not there for this caller, now or later.
        None => (Selection::These(HashSet::new()), sse::Scope::All(Vec::new(), JobFilter::default())),
    };
    let feed = in_time(jobs.watcher.feed(selection)).await?;
    follow_many(response, &jobs, (caller, teller), (feed, scope), since, permit).await
}

async fn follow_many(
    response: &mut Response,
    jobs: &Jobs,
    to: (Caller, Teller),
    of: (fourmi_queue::Feed, sse::Scope),
    since: Option<Timestamp>,
    permit: sse::Permit,
) -> Result<(), Problem> {
    let many = ManyJobs::open(jobs.queues.clone(), to, of, since).await?;
    sse::answer(response, many.events(since), permit, jobs.stop.clone());
    Ok(())
}

/// The batch that is named, or that a job of it names.
async fn batch(jobs: &Jobs, caller: &Caller, id: &JobId) -> Result<Job, Problem> {
    let job = jobs.get(id).await?.filter(|job| caller.sees_job(job)).ok_or_else(unknown_job)?;
    if job.kind.as_str() == BATCH_KIND {
        return Ok(job);
    }
    let none = || Problem::new(Code::UnknownBatch, format!("Follow it alone: /api/v1/jobs/{id}/events."));
    let batch = jobs.get(&job.batch.ok_or_else(none)?).await?;
    batch.filter(|batch| caller.sees_job(batch)).ok_or_else(none)
}

fn teller(query: &Query<'_>) -> Result<Teller, Problem> {
    Ok(Teller::of(query.one("vocabulary")?.unwrap_or_default()))
}

/// A browser's `EventSource` comes back after every end of a stream, but not after this.
fn nothing_more(response: &mut Response) {
    response.status_code(StatusCode::NO_CONTENT);
}

/// The time that the id of an event of many jobs is; nonsense is nothing, and so is what is yet to come.
fn moment(text: &str) -> Option<Timestamp> {
    let time = Timestamp::from_millisecond(text.parse().ok()?).ok()?;
    (time > Timestamp::UNIX_EPOCH && time <= Timestamp::now()).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_time_that_was_is_a_moment() {
        let past = Timestamp::now().as_millisecond() - 1;
        assert_eq!(moment(&past.to_string()).map(Timestamp::as_millisecond), Some(past));
        for nonsense in ["", "0", "-5", "7.41", "over", "x", "99999999999999", "99999999999999999999"] {
            assert_eq!(moment(nonsense), None, "{nonsense}");
        }
    }
}
