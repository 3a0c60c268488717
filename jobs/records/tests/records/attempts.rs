//! Failed tries of logging in.

use std::time::Duration;

use fourmi_records::{Attempts, Records};
use futures_util::future::join_all;

use crate::place::{Place, in_every_database, time};

in_every_database!(
    failures_are_counted_and_make_wait,
    failures_that_come_at_once_all_count,
    failures_are_forgotten,
    subjects_of_all_sorts_are_told_apart,
    old_failures_are_deleted,
);

/// Counts a failure: after the third in a row one waits a millisecond for each.
async fn fail(records: &Records, subject: &str, at: i64) -> Attempts {
    let wait = |failures: u32| Duration::from_millis(if failures < 3 { 0 } else { failures.into() });
    records.note_failure(subject, time(at), Duration::from_millis(10), wait).await.unwrap()
}

async fn failures_are_counted_and_make_wait(place: Place) {
    let records = place.open().await;
    for (at, failures, until) in [(0, 1, None), (9, 2, None), (19, 3, Some(22)), (20, 4, Some(24)), (31, 1, None)] {
        let attempts = Attempts { failures, until: until.map(time) };
        assert_eq!(fail(&records, "ann", at).await, attempts);
        assert_eq!(place.open().await.attempts(&["ann"]).await.unwrap(), [attempts]);
    }
    fail(&records, "bob", 31).await;
    fail(&records, "bob", 32).await;
    let counted = records.attempts(&["bob", "nobody", "ann", "bob"]).await.unwrap();
    assert_eq!(counted.iter().map(|attempts| attempts.failures).collect::<Vec<_>>(), [2, 0, 1, 2]);
    assert_eq!(records.attempts(&[]).await.unwrap(), []);
    let forever = records.note_failure("bob", time(0), Duration::MAX, |_| Duration::MAX).await.unwrap();
    assert_eq!(forever.failures, 3);
    assert!(forever.until.is_some_and(|until| until > time(1_000_000_000)));
}

async fn failures_that_come_at_once_all_count(place: Place) {
    let counts = place.at_once(4, |_, records| async move {
        let mut counts = Vec::new();
        for _ in 0..10 {
            counts.push(fail(&records, "ann", 0).await.failures);
        }
        counts
    });
    let mut counts = counts.await.concat();
    counts.sort_unstable();
    assert_eq!(counts, (1..=40).collect::<Vec<_>>());
    let counted = place.open().await.attempts(&["ann"]).await.unwrap();
    assert_eq!(counted, [Attempts { failures: 40, until: Some(time(40)) }]);
}

async fn failures_are_forgotten(place: Place) {
    let records = place.open().await;
    for subject in ["a", "b", "c"] {
        fail(&records, subject, 0).await;
    }
    records.forget_attempts(&["c", "nobody", "a", "a"]).await.unwrap();
    records.forget_attempts(&[]).await.unwrap();
    let counted = records.attempts(&["a", "b", "c"]).await.unwrap();
    assert_eq!(counted.iter().map(|attempts| attempts.failures).collect::<Vec<_>>(), [0, 1, 0]);
    assert_eq!(fail(&records, "a", 1).await.failures, 1);
    let forgotten = (0..8).map(|number| {
        // In both orders at once.
        let mut subjects = ["a", "b"];
        subjects.rotate_left(number % 2);
        let records = records.clone();
        async move { records.forget_attempts(&subjects).await.unwrap() }
    });
    join_all(forgotten).await;
    assert_eq!(records.attempts(&["a", "b"]).await.unwrap(), [Attempts::default(); 2]);
}

async fn subjects_of_all_sorts_are_told_apart(place: Place) {
    let records = place.open().await;
    let long = "é".repeat(100_000);
    let subjects = ["", "a", "A", "a ", "%", "user/é", "\0", &long];
    for subject in subjects {
        assert_eq!(fail(&records, subject, 0).await.failures, 1, "{subject:.20}");
    }
    let counted = records.attempts(&subjects).await.unwrap();
    assert!(counted.iter().all(|attempts| attempts.failures == 1), "{counted:?}");
    records.forget_attempts(&subjects).await.unwrap();
    assert_eq!(records.attempts(&subjects).await.unwrap(), [Attempts::default(); 8]);
}

async fn old_failures_are_deleted(place: Place) {
    let records = place.open().await;
    let fail = async |subject: &str, at, wait| {
        let wait = |_| Duration::from_millis(wait);
        records.note_failure(subject, time(at), Duration::ZERO, wait).await.unwrap()
    };
    for number in 0..1_001 {
        fail(&number.to_string(), 0, 0).await;
    }
    fail("waits", 0, 10).await;
    fail("has waited", 0, 9).await;
    fail("later", 10, 0).await;
    assert_eq!(records.prune_attempts(time(0)).await.unwrap(), 0);
    assert_eq!(records.prune_attempts(time(10)).await.unwrap(), 1_002, "however many");
    let counted = records.attempts(&["0", "1000", "has waited", "waits", "later"]).await.unwrap();
    assert_eq!(counted.iter().map(|attempts| attempts.failures).collect::<Vec<_>>(), [0, 0, 0, 1, 1]);
}
