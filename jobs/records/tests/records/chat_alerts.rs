//! Alerts that are open.

use fourmi_records::OpenAlert;
use jiff::SignedDuration;

use crate::place::{Place, in_every_database, time};

in_every_database!(
    an_alert_is_told_of_once_in_a_window,
    who_does_not_tell_in_time_leaves_it_to_the_next,
    of_many_who_raise_an_alert_at_once_one_tells_of_it,
    an_alert_that_could_not_be_told_of_is_taken_back,
    a_job_tells_nothing_of_what_was_resolved_before,
);

const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// How long a job has to tell of an alert.
const CLAIM: SignedDuration = SignedDuration::from_mins(5);

async fn an_alert_is_told_of_once_in_a_window(place: Place) {
    let records = place.open().await;
    let (tenant, disk) = ("acme".parse().unwrap(), ("chat", "disk"));
    let raise = async |job: &str, at| records.raise_alert(Some(&tenant), disk, job, HOUR, at).await.unwrap();
    let tell = async |job: &str, at| records.note_alert_told(Some(&tenant), disk, job, at).await.unwrap();
    let alert = |sent_by: &str, told, times| OpenAlert { opened_at: time(0), sent_by: sent_by.to_owned(), told, times };
    assert_eq!(raise("job-1", time(0)).await, alert("job-1", false, 1));
    assert_eq!(raise("job-1", time(1)).await, alert("job-1", false, 1), "it tries again");
    assert_eq!(raise("job-2", time(2)).await, alert("job-1", false, 2));
    assert!(tell("job-1", time(3)).await && !tell("job-2", time(3)).await);
    assert_eq!(raise("job-1", time(4)).await, alert("job-1", true, 2), "its worker died then");
    assert_eq!(raise("job-2", time(2) + HOUR).await, alert("job-1", true, 3));
    assert_eq!(raise("job-3", time(3) + HOUR).await, alert("job-3", false, 4), "the window is over");
    assert!(tell("job-3", time(3) + HOUR).await);
    assert_eq!(raise("job-4", time(4) + HOUR).await, alert("job-3", true, 5));
    // Others have alerts of their own.
    for (tenant, named) in [(None, disk), (Some(&tenant), ("ntfy", "disk")), (Some(&tenant), ("chat", "memory"))] {
        assert_eq!(records.open_alert(tenant, named).await.unwrap(), None);
        assert_eq!(records.raise_alert(tenant, named, "job-9", HOUR, time(5)).await.unwrap().times, 1);
    }

    let open = records.open_alert(Some(&tenant), disk).await.unwrap().unwrap();
    assert_eq!(open, alert("job-3", true, 5));
    let earlier = OpenAlert { opened_at: time(-1), ..open.clone() };
    assert!(!records.close_alert(Some(&tenant), disk, &earlier).await.unwrap());
    assert!(records.close_alert(Some(&tenant), disk, &open).await.unwrap());
    assert!(!records.close_alert(Some(&tenant), disk, &open).await.unwrap());
    assert_eq!(records.open_alert(Some(&tenant), disk).await.unwrap(), None);
    assert_eq!(raise("job-5", time(9) + HOUR).await.times, 1);
    // Of what nothing was heard for a month nothing is open.
    assert_eq!(raise("job-6", time(9) + HOUR * 24 * 31).await.times, 1);
}

async fn who_does_not_tell_in_time_leaves_it_to_the_next(place: Place) {
    let (records, disk) = (place.open().await, ("chat", "disk"));
    let raise = async |job: &str, at| records.raise_alert(None, disk, job, HOUR, at).await.unwrap().sent_by;
    let tell = async |job: &str, at| records.note_alert_told(None, disk, job, at).await.unwrap();
    assert_eq!(raise("job-1", time(0)).await, "job-1");
    assert_eq!(raise("job-2", time(-1) + CLAIM).await, "job-1");
    assert_eq!(raise("job-3", time(0) + CLAIM).await, "job-3");
    assert_eq!(raise("job-1", time(1) + CLAIM).await, "job-3", "it comes too late");
    assert!(!tell("job-1", time(1) + CLAIM).await);
    // A job that tries again has as much time again.
    assert_eq!(raise("job-3", time(2) + CLAIM).await, "job-3");
    assert_eq!(raise("job-4", time(1) + CLAIM * 2).await, "job-3");
    assert!(tell("job-3", time(1) + CLAIM * 2).await);
    assert_eq!(raise("job-4", time(0) + CLAIM * 4).await, "job-3", "somebody was told, whenever that was claimed");
}

async fn of_many_who_raise_an_alert_at_once_one_tells_of_it(place: Place) {
    let answers = place.at_once(6, |number, records| async move {
        let job = format!("job-{number}");
        let alert = records.raise_alert(None, ("chat", "disk"), &job, HOUR, time(0)).await.unwrap();
        (alert.sent_by == job, alert.times)
    });
    let answers = answers.await;
    assert_eq!(answers.iter().filter(|(tells, _)| *tells).count(), 1, "{answers:?}");
    let mut times: Vec<_> = answers.into_iter().map(|(_, times)| times).collect();
    times.sort_unstable();
    assert_eq!(times, [1, 2, 3, 4, 5, 6]);
}

async fn an_alert_that_could_not_be_told_of_is_taken_back(place: Place) {
    let (records, disk) = (place.open().await, ("chat", "disk"));
    records.raise_alert(None, disk, "job-1", HOUR, time(0)).await.unwrap();
    assert!(!records.withdraw_alert(None, disk, "job-2").await.unwrap());
    assert!(records.withdraw_alert(None, disk, "job-1").await.unwrap());
    let raise = async |job: &str, at| records.raise_alert(None, disk, job, HOUR, at).await.unwrap();
    assert_eq!(raise("job-2", time(1)).await.sent_by, "job-2");
    // What somebody was told of stays open, though they cannot be told again.
    assert!(records.note_alert_told(None, disk, "job-2", time(1)).await.unwrap());
    assert_eq!(raise("job-3", time(1) + HOUR).await.sent_by, "job-3");
    assert!(records.withdraw_alert(None, disk, "job-3").await.unwrap());
    let next = raise("job-4", time(2) + HOUR).await;
    assert_eq!((&*next.sent_by, next.told, next.times, next.opened_at), ("job-4", false, 3, time(1)));
    assert!(records.withdraw_alert(None, disk, "job-4").await.unwrap());
    assert!(!raise("job-4", time(3) + HOUR).await.told, "somebody has it done anew");
}

async fn a_job_tells_nothing_of_what_was_resolved_before(place: Place) {
    let (records, disk) = (place.open().await, ("chat", "disk"));
    let raise = async |job: &str, at| records.raise_alert(None, disk, job, HOUR, at).await.unwrap();
    let open = raise("job-1", time(0)).await;
    assert!(records.close_alert(None, disk, &open).await.unwrap());
    assert!(!records.close_alert(None, disk, &open).await.unwrap());
    assert_eq!(records.open_alert(None, disk).await.unwrap(), None);
    let late = raise("job-1", time(1)).await;
    assert_eq!((&*late.sent_by, late.told, late.times), ("job-1", false, 0));
    assert!(!records.note_alert_told(None, disk, "job-1", time(1)).await.unwrap());
    // For others it is a new one.
    let next = raise("job-2", time(2)).await;
    assert_eq!((&*next.sent_by, next.told, next.times, next.opened_at), ("job-2", false, 1, time(2)));
    assert_eq!(records.open_alert(None, disk).await.unwrap(), Some(next));
}
