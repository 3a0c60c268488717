//! Lists of finished jobs.

use std::{collections::HashSet, ops::Range};

use fourmi_model::{Failure, Job, JobRecord, State};
use fourmi_records::{RecordFilter, Records, RecordsError};

use crate::{
    jobs::record,
    place::{Place, in_every_database, time},
};

in_every_database!(
    a_list_has_what_its_filter_wants_newest_first,
    what_few_match_is_found_step_by_step,
    a_job_that_ends_once_more_moves_in_every_list,
    a_cursor_that_no_list_gave_is_refused,
);

/// Jobs of all sorts; several end at the same time.
fn sorts(numbers: Range<usize>) -> Vec<JobRecord> {
    numbers.map(sort).collect()
}

fn sort(number: usize) -> JobRecord {
    let state = [State::Succeeded, State::Failed, State::Cancelled, State::Succeeded][number % 4];
    let mut record = record(state, 1);
    let job = &mut record.job;
    let queue = ["media", "vision"][number % 2].parse().unwrap();
    job.id = format!("{queue}-{}", job.id.to_string().split_once('-').unwrap().1).parse().unwrap();
    job.queue = queue;
    job.kind = ["media.probe", "audio.extract", "sms.send"][number % 3].parse().unwrap();
    job.tenant = (!number.is_multiple_of(5)).then(|| format!("tenant-{}", number % 5).parse().unwrap());
    job.submitted_by = (!number.is_multiple_of(7)).then(|| format!("key-{}", number % 7));
    job.tags = ["even", "third", "a ‘long’ one"].iter().take(number % 4).map(|tag| (*tag).to_owned()).collect();
    job.error = (state == State::Failed).then(|| {
        let code = if number.is_multiple_of(3) { "busy" } else { "gone" };
        Failure::permanent(code, "no").report()
    });
    let number = i64::try_from(number).unwrap();
    job.created_at = time(number % 100);
    job.finished_at = Some(time(number % 100 + (number / 3) % 300));
    record
}

fn wants(filter: &RecordFilter, job: &Job) -> bool {
    let finished = job.finished_at.unwrap();
    (filter.states.is_empty() || filter.states.contains(&job.state))
        && filter.kind.as_ref().is_none_or(|kind| *kind == job.kind)
        && filter.queue.as_ref().is_none_or(|queue| *queue == job.queue)
        && filter.tag.as_ref().is_none_or(|tag| job.tags.contains(tag))
        && filter.error.as_ref().is_none_or(|code| job.error.as_ref().is_some_and(|error| error.code == *code))
        && filter.tenant.as_ref().is_none_or(|tenant| job.tenant.as_ref() == Some(tenant))
        && filter.submitted_by.as_ref().is_none_or(|key| job.submitted_by.as_ref() == Some(key))
        && filter.created_after.is_none_or(|after| job.created_at >= after)
        && filter.created_before.is_none_or(|before| job.created_at < before)
        && filter.finished_after.is_none_or(|after| finished >= after)
        && filter.finished_before.is_none_or(|before| finished < before)
}

/// Filters of every sort, and their pairs.
fn filters() -> Vec<RecordFilter> {
    let wishes: [fn(&mut RecordFilter); 14] = [
        |filter| filter.states = vec![State::Failed],
        |filter| filter.states = vec![State::Cancelled, State::Failed, State::Running],
        |filter| filter.states = vec![State::Succeeded, State::Cancelled],
        |filter| filter.states = vec![State::Waiting],
        |filter| filter.kind = Some("audio.extract".parse().unwrap()),
        |filter| filter.queue = Some("vision".parse().unwrap()),
        |filter| filter.tag = Some("third".to_owned()),
        |filter| filter.error = Some("busy".to_owned()),
        |filter| filter.tenant = Some("tenant-3".parse().unwrap()),
        |filter| filter.submitted_by = Some("key-2".to_owned()),
        |filter| filter.created_after = Some(time(60)),
        |filter| filter.created_before = Some(time(30)),
        |filter| filter.finished_after = Some(time(150)),
        |filter| filter.finished_before = Some(time(200)),
    ];
    let mut filters = vec![RecordFilter::default()];
    for (number, first) in wishes.iter().enumerate() {
        for second in &wishes[number..] {
            let mut filter = RecordFilter::default();
            first(&mut filter);
            second(&mut filter);
            filters.push(filter);
        }
    }
    filters
}

/// All pages of a list, and how many there were.
async fn walk(records: &Records, filter: &RecordFilter, limit: usize) -> (Vec<Job>, usize) {
    let (mut jobs, mut cursor, mut pages) = (Vec::new(), None::<String>, 0);
    loop {
        let (page, next) = records.list(filter, cursor.as_deref(), limit).await.unwrap();
        assert!(page.len() <= limit);
        jobs.extend(page);
        pages += 1;
        match next {
            Some(next) => cursor = Some(next),
            None => return (jobs, pages),
        }
    }
}

async fn a_list_has_what_its_filter_wants_newest_first(place: Place) {
    let records = place.open().await;
    let mut all = sorts(0..600);
    records.archive(&all).await.unwrap();
    all.sort_by_key(|record| (record.job.finished_at, record.job.id.to_string()));
    all.reverse();
    for filter in filters() {
        let expected: Vec<_> = all.iter().map(|record| &record.job).filter(|job| wants(&filter, job)).collect();
        for limit in [7, 200] {
            let (jobs, _) = walk(&records, &filter, limit).await;
            assert_eq!(jobs.iter().collect::<Vec<_>>(), expected, "{filter:?}");
        }
    }
    let (page, next) = records.list(&RecordFilter::default(), None, 600).await.unwrap();
    assert_eq!((page.len(), next.is_some()), (200, true), "a page is bounded");
    let cursor = Records::cursor_after(&page[9]);
    assert_eq!(records.list(&RecordFilter::default(), Some(&cursor), 3).await.unwrap().0, page[10..13]);
}

async fn what_few_match_is_found_step_by_step(place: Place) {
    let records = place.open().await;
    let mut all = sorts(0..12_000);
    for (number, record) in all.iter_mut().enumerate() {
        record.job.kind = "media.probe".parse().unwrap();
        record.job.tenant = Some(if number < 3 { "rare" } else { "common" }.parse().unwrap());
        record.job.finished_at = Some(time(i64::try_from(number).unwrap()));
    }
    for batch in all.chunks(1_000) {
        records.archive(batch).await.unwrap();
    }
    let filter = RecordFilter {
        tenant: Some("common".parse().unwrap()),
        kind: Some("audio.extract".parse().unwrap()),
        ..RecordFilter::default()
    };
    let (jobs, pages) = walk(&records, &filter, 10).await;
    assert_eq!((jobs.len(), pages), (0, 3), "each page looks at a bounded number of jobs");
    let filter = RecordFilter { kind: Some("media.probe".parse().unwrap()), ..RecordFilter::default() };
    let rare = RecordFilter { tenant: Some("rare".parse().unwrap()), ..filter.clone() };
    assert_eq!(walk(&records, &rare, 10).await.0.len(), 3);
    let late = RecordFilter { created_before: Some(time(1)), ..filter };
    let (jobs, _) = walk(&records, &late, 10).await;
    let ids: HashSet<_> = jobs.iter().map(|job| job.id.to_string()).collect();
    assert_eq!((jobs.len(), ids.len()), (120, 120));
}

async fn a_job_that_ends_once_more_moves_in_every_list(place: Place) {
    let records = place.open().await;
    let (mut replayed, mut other) = (sort(1), sort(1));
    replayed.job.tags = vec!["a".into(), "b".into(), "a".into()];
    other.job.tags = vec!["a".into()];
    (replayed.job.finished_at, other.job.finished_at) = (Some(time(100)), Some(time(200)));
    records.archive(&[replayed.clone(), other.clone()]).await.unwrap();
    let first = replayed.clone();
    (replayed.job.version, replayed.job.state) = (9, State::Succeeded);
    (replayed.job.finished_at, replayed.job.error) = (Some(time(300)), None);
    records.archive(&[replayed.clone()]).await.unwrap();
    records.archive(&[first]).await.unwrap();
    let tagged = |tag: &str| RecordFilter { tag: Some(tag.to_owned()), ..RecordFilter::default() };
    for filter in [RecordFilter::default(), tagged("a")] {
        assert_eq!(walk(&records, &filter, 1).await.0, [replayed.job.clone(), other.job.clone()], "{filter:?}");
    }
    assert_eq!(walk(&records, &tagged("b"), 1).await.0, [replayed.job]);
    let failed = RecordFilter { states: vec![State::Failed], ..RecordFilter::default() };
    assert_eq!(walk(&records, &failed, 1).await.0, [other.job]);
}

async fn a_cursor_that_no_list_gave_is_refused(place: Place) {
    let records = place.open().await;
    records.archive(&sorts(0..3)).await.unwrap();
    let filter = RecordFilter::default();
    let (_, next) = records.list(&filter, None, 1).await.unwrap();
    let cursor = next.unwrap();
    assert!(cursor.chars().all(|c| c.is_ascii_alphanumeric() || ".-".contains(c)), "{cursor}");
    records.list(&filter, Some(&cursor), 1).await.unwrap();
    for tampered in [
        "",
        ".",
        "nonsense",
        &cursor[1..cursor.len() - 1],
        &format!("+{cursor}"),
        &format!("{cursor}0"),
        &cursor.to_uppercase(),
        &format!("9999999999999999999{}", &cursor[cursor.find('.').unwrap()..]),
        "9223372036854775807.media-0198c0de-0000-7000-8000-000000000001",
        "0.media-0198c0de-0000-7000-8000-000000000001' OR 1=1",
    ] {
        let error = records.list(&filter, Some(tampered), 1).await.unwrap_err();
        assert!(matches!(error, RecordsError::Cursor), "{tampered}: {error}");
    }
}
