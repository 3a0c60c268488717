//! To whom the mails of jobs were handed over.

use jiff::SignedDuration;

use crate::place::{Place, in_every_database, time};

in_every_database!(whom_a_mail_was_handed_over_for_is_known_for_two_weeks);

async fn whom_a_mail_was_handed_over_for_is_known_for_two_weeks(place: Place) {
    let records = place.open().await;
    let addresses = |names: &[&str]| names.iter().map(|name| format!("{name}@example.org")).collect::<Vec<_>>();
    records.note_mailed("job-1", &addresses(&["b"]), time(0)).await.unwrap();
    records.note_mailed("job-1", &addresses(&["a", "b"]), time(1)).await.unwrap();
    records.note_mailed("job-2", &addresses(&["c"]), time(2)).await.unwrap();
    let reader = place.open().await;
    assert_eq!(reader.mailed("job-1").await.unwrap(), addresses(&["a", "b"]));
    assert_eq!(reader.mailed("job-3").await.unwrap(), addresses(&[]));
    // Each is known since the first time.
    let later = time(0) + SignedDuration::from_hours(14 * 24) + SignedDuration::from_millis(1);
    records.note_mailed("job-3", &[], later).await.unwrap();
    assert_eq!(reader.mailed("job-1").await.unwrap(), addresses(&["a"]));
    assert_eq!(reader.mailed("job-2").await.unwrap(), addresses(&["c"]));
}
