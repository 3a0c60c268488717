use std::collections::HashSet;

use serde_json::json;

use super::*;
use crate::event::Event;

pub(super) fn job(id: &JobId, state: &str, version: u64) -> Job {
    serde_json::from_value(json!({
        "id": id, "kind": "media.probe", "schema_version": 1, "queue": id.queue(), "state": state, "version": version,
        "priority": "normal", "run": 1, "attempts": 0, "crashes": 0, "created_at": "2026-01-01T00:00:00Z",
        "payload": {}, "tags": ["a"], "tenant": "town",
    }))
    .unwrap()
}

fn queue() -> QueueName {
    "media".parse().unwrap()
}

fn filter(tag: &str) -> Selection {
    Selection::Matching(None, JobFilter { tag: Some(tag.into()), ..JobFilter::default() })
}

fn open(hub: &Hub, selection: Selection) -> Arc<Shared> {
    let shared = Arc::new(Shared { selection, pending: Mutex::default(), arrived: Notify::new() });
    hub.add(&shared);
    shared
}

fn tell(hub: &Hub, id: &JobId, rest: &str) {
    let line = format!("{} {rest}", id.uuid());
    hub.tell(id.queue(), &Event::read(&line).unwrap());
}

/// What a feed would give, as `state version` or `progress version`.
fn given(feed: &Shared) -> Vec<String> {
    let mut given = Vec::new();
    while let Some((_, entry)) = feed.with(Pending::take) {
        let document = entry.state.and_then(|news| news.document);
        given.extend(document.map(|job| format!("{} {}", job.state, job.version)));
        given.extend(entry.progress.map(|far| format!("progress {}", far.version)));
    }
    given
}

#[test]
fn a_job_is_read_once_for_all_feeds_and_only_if_one_may_want_it() {
    let hub = Hub::default();
    let id = JobId::new(queue());
    tell(&hub, &id, "1 waiting 0");
    assert!(hub.group().is_empty(), "nobody listens");

    let (all, a, b) =
        (open(&hub, Selection::Matching(None, JobFilter::default())), open(&hub, filter("a")), open(&hub, filter("b")));
    tell(&hub, &id, "1 waiting 0");
    tell(&hub, &id, "2 running 1");
    assert_eq!(hub.group(), std::slice::from_ref(&id));
    hub.answer(&job(&id, "running", 2));
    for (feed, expected) in [(&all, &["running 2"][..]), (&a, &["running 2"]), (&b, &[])] {
        assert_eq!(given(feed), expected);
    }
    // What it is is known now: progress needs no reading.
    tell(&hub, &id, r#"3 running 1 {"stage":"x","percent":5}"#);
    tell(&hub, &id, r#"3 running 1 {"stage":"x","percent":5}"#);
    assert!(hub.group().is_empty());
    assert_eq!((given(&all), given(&b)), (vec!["progress 3".to_owned()], vec![]));

    hub.remove(&all);
    hub.remove(&a);
    tell(&hub, &id, "4 succeeded 1");
    assert!(hub.group().is_empty(), "what is left wants another tag");
    hub.remove(&b);
    assert!(hub.unfinished().is_empty(), "what is not used costs nothing");
}

#[test]
fn progress_does_not_overtake_the_state_before_it() {
    let hub = Hub::default();
    let feed = open(&hub, filter("a"));
    let id = JobId::new(queue());
    tell(&hub, &id, "2 running 1");
    assert_eq!(hub.group().len(), 1);
    tell(&hub, &id, r#"3 running 1 {"stage":"x","percent":5}"#);
    assert!(given(&feed).is_empty());
    hub.answer(&job(&id, "running", 2));
    assert_eq!(given(&feed), ["running 2"]);
    assert_eq!(hub.group().len(), 1);
    let far = Job { progress: Some(Progress::default()), ..job(&id, "running", 3) };
    hub.answer(&far);
    assert_eq!(given(&feed), ["progress 3"]);
}

#[test]
fn feeds_of_states_queues_and_ids_are_told_of_nothing_else() {
    let hub = Hub::default();
    let failed = JobFilter { states: vec![State::Failed], ..JobFilter::default() };
    let failed = open(&hub, Selection::Matching(None, failed));
    let elsewhere = open(&hub, Selection::Matching(Some("vision".parse().unwrap()), JobFilter::default()));
    let (one, other) = (JobId::new(queue()), JobId::new(queue()));
    let these = open(&hub, Selection::These(HashSet::from([one.uuid()])));
    tell(&hub, &other, "2 running 1");
    assert!(hub.group().is_empty());
    tell(&hub, &one, "2 running 1");
    tell(&hub, &other, "3 failed 1");
    assert_eq!(hub.group(), [one.clone(), other.clone()]);
    hub.answer(&job(&one, "running", 2));
    hub.answer(&job(&other, "failed", 3));
    assert_eq!((given(&failed), given(&these)), (vec!["failed 3".to_owned()], vec!["running 2".to_owned()]));
    assert!(given(&elsewhere).is_empty());
}

#[test]
fn a_version_that_was_not_heard_of_is_read_and_an_interruption_is_told() {
    let hub = Hub::default();
    let feed = open(&hub, filter("a"));
    let id = JobId::new(queue());
    hub.meet(&job(&id, "running", 2));
    assert_eq!(hub.unfinished(), std::slice::from_ref(&id));
    hub.is_at(&id, Some(5));
    assert_eq!(hub.group().len(), 1);
    hub.answer(&job(&id, "succeeded", 5));
    assert_eq!(given(&feed), ["succeeded 5"]);
    assert!(hub.unfinished().is_empty());
    hub.subscribed();
    let gap = feed.with(Pending::take_gap).unwrap();
    assert_eq!((gap.missed, gap.reason), (None, GapReason::Interrupted));
}
