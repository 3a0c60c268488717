//! Alerts that are open.

use fourmi_records::OpenAlert;
use jiff::SignedDuration;

use crate::place::{Place, in_every_database, time};

in_every_database!(
    an_alert_is_told_of_once_in_a_window,
    of_many_who_raise_an_alert_at_once_one_tells_of_it,
    an_alert_that_could_not_be_told_of_is_taken_back,
);

const HOUR: SignedDuration = SignedDuration::from_hours(1);

async fn an_alert_is_told_of_once_in_a_window(place: Place) {
    let records = place.open().await;
    let (tenant, disk) = ("acme".parse().unwrap(), ("chat", "disk"));
    let raise = async |job: &str, at| records.raise_alert(Some(&tenant), disk, job, HOUR, at).await.unwrap();
    let alert = |sent_by: &str, times| OpenAlert { opened_at: time(0), sent_by: sent_by.to_owned(), times };
    assert_eq!(raise("job-1", time(0)).await, alert("job-1", 1));
    assert_eq!(raise("job-1", time(1)).await, alert("job-1", 1), "it tries again");
    assert_eq!(raise("job-2", time(2)).await, alert("job-1", 2));
    assert_eq!(raise("job-3", time(0) + HOUR).await, alert("job-3", 3), "the window is over");
    assert_eq!(raise("job-4", time(1) + HOUR).await, alert("job-3", 4));
    // Others have alerts of their own.
    for (tenant, named) in [(None, disk), (Some(&tenant), ("ntfy", "disk")), (Some(&tenant), ("chat", "memory"))] {
        assert_eq!(records.open_alert(tenant, named).await.unwrap(), None);
        assert_eq!(records.raise_alert(tenant, named, "job-9", HOUR, time(5)).await.unwrap().times, 1);
    }

    let open = records.open_alert(Some(&tenant), disk).await.unwrap().unwrap();
    assert_eq!(open, alert("job-3", 4));
    let earlier = OpenAlert { opened_at: time(-1), ..open.clone() };
    assert!(!records.close_alert(Some(&tenant), disk, &earlier).await.unwrap());
    assert!(records.close_alert(Some(&tenant), disk, &open).await.unwrap());
    assert!(!records.close_alert(Some(&tenant), disk, &open).await.unwrap());
    assert_eq!(records.open_alert(Some(&tenant), disk).await.unwrap(), None);
    assert_eq!(raise("job-5", time(9) + HOUR).await.times, 1);
    // Of what nothing was heard for a month nothing is open.
    assert_eq!(raise("job-6", time(9) + HOUR * 24 * 31).await.times, 1);
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
    assert_eq!(records.raise_alert(None, disk, "job-2", HOUR, time(1)).await.unwrap().sent_by, "job-2");
}
