//! Deleted jobs.

use fourmi_model::{JobId, State};
use fourmi_records::RecordFilter;

use crate::{
    jobs::record,
    place::{Place, in_every_database},
};

in_every_database!(what_is_deleted_is_gone_and_stays_away, who_deletes_and_who_archives_miss_nothing_of_each_other);

async fn what_is_deleted_is_gone_and_stays_away(place: Place) {
    let records = place.open().await;
    let all: Vec<_> = (0..3).map(|_| record(State::Failed, 4)).collect();
    records.archive(&all[..2]).await.unwrap();
    let gone = [all[0].job.id.clone(), all[2].job.id.clone(), all[0].job.id.clone()];
    assert_eq!(records.delete(&gone).await.unwrap(), 1, "one of them was recorded");
    assert_eq!(records.delete(&gone).await.unwrap(), 0);
    assert_eq!(records.delete(&[]).await.unwrap(), 0);

    // An outbox that held them brings them again, one as it ended later.
    let mut again = all.clone();
    again[0].job.version = 9;
    assert_eq!(place.open().await.archive(&again).await.unwrap(), 0);
    assert_eq!(records.archive(&[]).await.unwrap(), 0);
    assert_eq!(records.job(&gone[0]).await.unwrap(), None);
    assert_eq!(records.job(&gone[1]).await.unwrap(), None);
    let tagged = RecordFilter { tag: all[0].job.tags.first().cloned(), ..RecordFilter::default() };
    for filter in [RecordFilter::default(), tagged] {
        let (jobs, _) = records.list(&filter, None, 10).await.unwrap();
        assert_eq!(jobs, [all[1].job.clone()]);
    }
}

async fn who_deletes_and_who_archives_miss_nothing_of_each_other(place: Place) {
    let records = place.open().await;
    for _ in 0..20 {
        let batch: Vec<_> = (0..60).map(|_| record(State::Succeeded, 1)).collect();
        let ids: Vec<JobId> = batch.iter().map(|record| record.job.id.clone()).collect();
        let other = place.open().await;
        let (archived, deleted) = tokio::join!(records.archive(&batch), other.delete(&ids));
        archived.unwrap();
        deleted.unwrap();
    }
    assert_eq!(records.count().await.unwrap(), 0);
}
