//! Finished jobs.

use fourmi_model::{Failure, Job, JobId, JobRecord, ParentFailure, Priority, RunReport, State};
use serde_json::json;

use crate::place::{Place, in_every_database, time};

in_every_database!(
    a_record_is_read_as_it_was_written,
    a_job_has_one_row_that_only_a_newer_version_replaces,
    many_may_open_and_write_at_once,
    what_a_database_cannot_hold_is_written_otherwise,
);

/// Another job, the same each time: ties never change.
fn relative(queue: &str, number: u8) -> JobId {
    format!("{queue}-0198c0de-0000-7000-8000-00000000000{number}").parse().unwrap()
}

/// A finished job with everything that one can have.
pub(crate) fn record(state: State, version: u64) -> JobRecord {
    let error = Failure::retry("busy", "come back “later”").report();
    let failed = state == State::Failed;
    let job = Job {
        id: JobId::new("media".parse().unwrap()),
        kind: "media.probe".parse().unwrap(),
        schema_version: 2,
        queue: "media".parse().unwrap(),
        state,
        version,
        priority: Priority::High,
        tenant: Some("acme".parse().unwrap()),
        limits: Vec::new(),
        tags: vec!["one".into(), "two \"words\"".into()],
        correlation_id: Some("request 7".into()),
        run: 3,
        attempts: 2,
        crashes: 1,
        created_at: time(0),
        due_at: None,
        started_at: Some(time(1)),
        finished_at: Some(time(2)),
        deadline: Some(time(60_000)),
        after: vec![relative("vision", 1)],
        on_parent_failure: ParentFailure::Wait,
        parent: Some(relative("media", 2)),
        batch: Some(relative("media", 3)),
        webhook: None,
        submitted_by: Some("key-7".into()),
        worker: None,
        parked_reason: None,
        cancel_requested: false,
        log_lines: 0,
        progress: serde_json::from_value(json!({"stage": "encode", "percent": 99.5})).unwrap(),
        result: (!failed).then(|| json!({"seconds": 1.5, "text": "é\u{0}"})),
        error: failed.then(|| error.clone()),
        payload: json!({"source": {"url": "https://example.org"}}),
        archived: true,
    };
    let run =
        RunReport { run: 1, worker: "w1".into(), started_at: time(1), ended_at: time(2), duration_ms: 1_000, error };
    JobRecord { job, worker: Some("w2".into()), waited_ms: Some(1_500), runs: vec![run] }
}

async fn a_record_is_read_as_it_was_written(place: Place) {
    let all = [record(State::Succeeded, 5), record(State::Failed, 6)];
    assert_eq!(place.open().await.archive(&all).await.unwrap(), 2);
    // Another program finds it.
    let records = place.open().await;
    for record in &all {
        assert_eq!(records.job(&record.job.id).await.unwrap().as_ref(), Some(record));
    }
    assert_eq!(records.job(&JobId::new("media".parse().unwrap())).await.unwrap(), None);
}

async fn a_job_has_one_row_that_only_a_newer_version_replaces(place: Place) {
    let records = place.open().await;
    let first = record(State::Failed, 4);
    let mut replayed = record(State::Succeeded, 9);
    replayed.job.id = first.job.id.clone();
    assert_eq!(records.archive(std::slice::from_ref(&first)).await.unwrap(), 1);
    assert_eq!(records.archive(&[first.clone(), replayed.clone()]).await.unwrap(), 1, "it ended once more");
    assert_eq!(records.archive(&[replayed.clone(), first]).await.unwrap(), 0, "a batch that comes again");
    assert_eq!(records.job(&replayed.job.id).await.unwrap(), Some(replayed));
    assert_eq!(records.count().await.unwrap(), 1);
}

async fn many_may_open_and_write_at_once(place: Place) {
    // Some of it comes to all of them.
    let shared: Vec<_> = (0..20).map(|_| record(State::Succeeded, 3)).collect();
    let writers = (0..8).map(|writer| {
        let (place, mut shared) = (&place, shared.clone());
        async move {
            let records = place.open().await;
            shared.rotate_left(writer);
            for _ in 0..5 {
                let batch: Vec<_> = (0..20).map(|_| record(State::Succeeded, 3)).collect();
                assert_eq!(records.archive(&batch).await.unwrap(), 20);
                records.archive(&shared).await.unwrap();
            }
        }
    });
    futures_util::future::join_all(writers).await;
    assert_eq!(place.open().await.count().await.unwrap(), 8 * 5 * 20 + 20);
}

async fn what_a_database_cannot_hold_is_written_otherwise(place: Place) {
    let records = place.open().await;
    let mut odd = record(State::Failed, 1);
    odd.job.correlation_id = Some("\0".into());
    odd.job.tags = vec!["\0".into()];
    odd.worker = Some("w\0".into());
    odd.job.error = Some(Failure::permanent("\0", "\0").report());
    odd.job.version = u64::MAX;
    assert_eq!(records.archive(&[odd.clone()]).await.unwrap(), 1);
    let read = records.job(&odd.job.id).await.unwrap().unwrap();
    assert_eq!((read.job.tags, read.job.error), (odd.job.tags, odd.job.error));
    assert_eq!(read.job.correlation_id.as_deref(), Some("\u{fffd}"));
    assert_eq!(read.worker.as_deref(), Some("w\u{fffd}"));
}
