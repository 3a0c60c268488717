//! What is older than it is kept.

use fourmi_model::{AuditEvent, JobRecord, Outcome, State};
use fourmi_records::{AuditFilter, OldJobs, RecordFilter, Records};
use jiff::Timestamp;

use crate::{
    jobs::record,
    place::{Place, in_every_database, time},
};

in_every_database!(
    old_jobs_go_with_their_tags_and_held_ones_stay,
    many_old_jobs_go_in_steps,
    the_jobs_of_one_queue_go_alone,
    old_events_go_and_newer_ones_cannot,
);

fn ended(second: i64, tag: Option<&str>) -> JobRecord {
    let mut record = record(State::Succeeded, 1);
    record.job.finished_at = Some(time(second * 1_000));
    record.job.tags = tag.map(str::to_owned).into_iter().collect();
    record
}

fn before(second: i64) -> OldJobs {
    OldJobs { before: time(second * 1_000), queue: None }
}

/// Deletes to the end; how many went, in how many steps.
async fn delete(records: &Records, old: &OldJobs) -> (u64, usize) {
    let (mut deleted, mut steps, mut next) = (0, 0, None);
    loop {
        let step = records.delete_old_jobs(old, next.as_ref()).await.unwrap();
        (deleted, steps) = (deleted + step.deleted, steps + 1);
        next = step.next;
        if next.is_none() {
            return (deleted, steps);
        }
    }
}

async fn tagged(records: &Records, tag: &str) -> usize {
    let filter = RecordFilter { tag: Some(tag.to_owned()), ..RecordFilter::default() };
    records.list(&filter, None, 200).await.unwrap().0.len()
}

async fn old_jobs_go_with_their_tags_and_held_ones_stay(place: Place) {
    let records = place.open().await;
    let jobs: Vec<_> = (0..10).map(|second| ended(second, Some("a"))).collect();
    let held = [ended(2, Some("legal-hold")), ended(3, Some("legal-hold")), ended(50, Some("legal-hold"))];
    records.archive(&jobs).await.unwrap();
    records.archive(&held).await.unwrap();
    assert_eq!(records.count_old_jobs(&before(5)).await.unwrap(), (7, 2));
    assert_eq!(records.count().await.unwrap(), 13, "counting deletes nothing");

    assert_eq!(delete(&records, &before(5)).await, (5, 1));
    assert_eq!(records.count_old_jobs(&before(5)).await.unwrap(), (2, 2));
    assert_eq!((tagged(&records, "a").await, tagged(&records, "legal-hold").await), (5, 3));
    assert_eq!(records.job(&held[0].job.id).await.unwrap().as_ref(), Some(&held[0]));
    assert_eq!(records.job(&jobs[4].job.id).await.unwrap(), None);
    assert_eq!(records.job(&jobs[5].job.id).await.unwrap().as_ref(), Some(&jobs[5]));
    assert_eq!(delete(&records, &before(5)).await, (0, 1));
}

async fn many_old_jobs_go_in_steps(place: Place) {
    let records = place.open().await;
    // Many end at the same moment: steps must not stop between them.
    let jobs: Vec<_> = (0..5_000).map(|number| ended(number / 1_500, None)).collect();
    records.archive(&jobs).await.unwrap();
    let (deleted, steps) = delete(&records, &before(3)).await;
    assert_eq!((deleted, records.count().await.unwrap()), (4_500, 500));
    assert_eq!(steps, 3);
}

async fn the_jobs_of_one_queue_go_alone(place: Place) {
    let records = place.open().await;
    let mut chore = ended(1, None);
    chore.job.id = fourmi_model::JobId::new("maintenance".parse().unwrap());
    chore.job.queue = "maintenance".parse().unwrap();
    let other = ended(1, None);
    records.archive(&[chore.clone(), other.clone()]).await.unwrap();
    let old = OldJobs { queue: Some("maintenance".parse().unwrap()), ..before(5) };
    assert_eq!(records.count_old_jobs(&old).await.unwrap(), (1, 0));
    assert_eq!(delete(&records, &old).await, (1, 1));
    assert_eq!(records.job(&other.job.id).await.unwrap(), Some(other));
}

fn event(number: i64) -> AuditEvent {
    AuditEvent {
        id: format!("event-{number}"),
        time: time(number * 1_000),
        actor: None,
        tenant: None,
        action: "login".to_owned(),
        target: None,
        outcome: Outcome::Success,
        address: None,
        user_agent: None,
        request_id: None,
        details: serde_json::Map::new(),
    }
}

async fn old_events_go_and_newer_ones_cannot(place: Place) {
    let records = place.open().await;
    records.add_audit(&(0..10).map(event).collect::<Vec<_>>()).await.unwrap();
    let old: Timestamp = time(4_000);
    assert_eq!(records.count_old_events(old).await.unwrap(), 4);
    assert_eq!(records.delete_old_events(old).await.unwrap(), 4);
    assert_eq!(records.delete_old_events(old).await.unwrap(), 0);
    // An earlier limit does not bring the log's own back.
    assert_eq!(records.delete_old_events(time(1_000)).await.unwrap(), 0);
    for statement in ["DELETE FROM audit_events", "DELETE FROM audit_events WHERE id = 'event-4'"] {
        let error = place.run(statement).await.unwrap_err();
        assert!(error.to_string().contains("the audit log is only added to"), "{statement}: {error}");
    }
    let (events, _) = records.audit(&AuditFilter::default(), None, 100).await.unwrap();
    let ids: Vec<_> = events.iter().map(|event| event.id.as_str()).collect();
    assert_eq!(ids, ["event-9", "event-8", "event-7", "event-6", "event-5", "event-4"]);
}
