//! Finished jobs in a file that several programs may use.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::os::unix::fs::PermissionsExt;

use fourmi_model::{Failure, Job, JobId, JobRecord, ParentFailure, Priority, RunReport, State};
use fourmi_records::{Records, RecordsError};
use jiff::Timestamp;
use serde_json::json;
use tempfile::TempDir;

fn time(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(1_800_000_000_000 + ms).unwrap()
}

/// Another job, the same each time: ties never change.
fn relative(queue: &str, number: u8) -> JobId {
    format!("{queue}-0198c0de-0000-7000-8000-00000000000{number}").parse().unwrap()
}

/// A finished job with everything that one can have.
fn record(state: State, version: u64) -> JobRecord {
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
    JobRecord { job, worker: Some("w2".into()), runs: vec![run] }
}

async fn open(folder: &TempDir) -> Records {
    Records::open(&folder.path().join("records.db")).await.unwrap()
}

#[tokio::test]
async fn a_record_is_read_as_it_was_written() {
    let folder = TempDir::new().unwrap();
    let all = [record(State::Succeeded, 5), record(State::Failed, 6)];
    assert_eq!(open(&folder).await.archive(&all).await.unwrap(), 2);
    // Another program finds it on the disk.
    let records = open(&folder).await;
    for record in &all {
        assert_eq!(records.job(&record.job.id).await.unwrap().as_ref(), Some(record));
    }
    assert_eq!(records.job(&JobId::new("media".parse().unwrap())).await.unwrap(), None);
    let mode = folder.path().join("records.db").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "payloads are private");
}

#[tokio::test]
async fn a_job_has_one_row_that_only_a_newer_version_replaces() {
    let folder = TempDir::new().unwrap();
    let records = open(&folder).await;
    let first = record(State::Failed, 4);
    let mut replayed = record(State::Succeeded, 9);
    replayed.job.id = first.job.id.clone();
    assert_eq!(records.archive(std::slice::from_ref(&first)).await.unwrap(), 1);
    assert_eq!(records.archive(&[first.clone(), replayed.clone()]).await.unwrap(), 1, "it ended once more");
    assert_eq!(records.archive(&[replayed.clone(), first]).await.unwrap(), 0, "a batch that comes again");
    assert_eq!(records.job(&replayed.job.id).await.unwrap(), Some(replayed));
    assert_eq!(records.count().await.unwrap(), 1);
}

#[tokio::test]
async fn many_may_open_and_write_at_once() {
    let folder = TempDir::new().unwrap();
    let writers = (0..8).map(|_| async {
        let records = open(&folder).await;
        for _ in 0..5 {
            let batch: Vec<_> = (0..20).map(|_| record(State::Succeeded, 3)).collect();
            assert_eq!(records.archive(&batch).await.unwrap(), 20);
        }
    });
    futures_util::future::join_all(writers).await;
    assert_eq!(open(&folder).await.count().await.unwrap(), 8 * 5 * 20);
}

#[tokio::test]
async fn what_cannot_be_opened_is_named() {
    let folder = TempDir::new().unwrap();
    let error = Records::open(&folder.path().join("nowhere/records.db")).await.unwrap_err();
    assert!(matches!(&error, RecordsError::Open { .. }) && error.to_string().contains("nowhere"), "{error}");
    std::fs::write(
        folder.path().join("records.db"),
        "a text that is no database, long enough to have a header".repeat(9),
    )
    .unwrap();
    let error = Records::open(&folder.path().join("records.db")).await.unwrap_err();
    assert!(error.to_string().contains("not a database"), "{error}");
}
