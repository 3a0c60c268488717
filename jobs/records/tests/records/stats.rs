//! Statistics of finished jobs.

use fourmi_model::{JobRecord, JobSeries, JobStats, StatDimension, StatStep, State};
use fourmi_records::{Added, OldJobs, Records, Rolled, StatFilter};
use jiff::{SignedDuration, Timestamp, ToSpan};

use crate::{
    jobs::record,
    place::{Place, in_every_database},
};

in_every_database!(
    figures_are_the_same_whether_or_not_they_are_added_up,
    a_job_that_ends_once_more_counts_at_its_new_end,
    jobs_that_are_recorded_late_count_in_their_minute,
    two_who_add_up_at_once_count_nothing_twice,
    statistics_outlive_the_jobs_and_are_counted_again_as_far_as_these_go_back,
    old_minutes_and_hours_go_and_days_stay,
);

/// The beginning of a day.
const DAY: &str = "2026-03-01T00:00:00Z";

fn day() -> Timestamp {
    DAY.parse().unwrap()
}

/// A job that ended so many seconds after the day began.
fn ended(second: i64, state: State, kind: &str) -> JobRecord {
    let mut record = record(state, 1);
    record.job.kind = kind.parse().unwrap();
    record.job.finished_at = Some(day() + SignedDuration::from_secs(second));
    record.job.started_at = record.job.finished_at.map(|end| end - 2.seconds());
    record
}

fn filter(step: StatStep, by: Option<StatDimension>) -> StatFilter {
    StatFilter { step, from: day(), to: day() + 24.hours(), by, kind: None, queue: None, tenant: None }
}

/// The figures by every step and dimension.
async fn all(records: &Records) -> Vec<JobStats> {
    let mut all = Vec::new();
    for step in [StatStep::Minute, StatStep::Hour, StatStep::Day] {
        for by in [None, Some(StatDimension::Kind), Some(StatDimension::Queue), Some(StatDimension::Tenant)] {
            let stats = records.job_stats(&filter(step, by)).await.unwrap();
            all.push(JobStats { unrolled_minutes: 0, ..stats });
        }
    }
    all
}

/// Adds up all that is due then; how many hours and minutes that was.
async fn roll_up(records: &Records, now: Timestamp) -> (u64, Rolled) {
    let (mut hours, mut sum) = (0, Rolled::default());
    while let Added::Hour(rolled) = records.roll_up(now).await.unwrap() {
        hours += 1;
        sum.minutes += rolled.minutes;
        sum.too_late += rolled.too_late;
    }
    (hours, sum)
}

fn only(stats: &JobStats) -> &JobSeries {
    assert_eq!(stats.series.len(), 1, "{stats:?}");
    &stats.series[0]
}

async fn figures_are_the_same_whether_or_not_they_are_added_up(place: Place) {
    let records = place.open().await;
    let mut jobs = Vec::new();
    for number in 0..200 {
        let state = [State::Succeeded, State::Failed, State::Succeeded, State::Cancelled][number % 4];
        let kind = ["media.probe", "audio.extract", "sms.send"][number % 3];
        let mut job = ended(i64::try_from(number * 137 % 9_000).unwrap(), state, kind);
        job.job.tenant = (!number.is_multiple_of(5)).then(|| "acme".parse().unwrap());
        job.waited_ms = (!number.is_multiple_of(7)).then_some(number as u64 * 10);
        jobs.push(job);
    }
    records.archive(&jobs[..150]).await.unwrap();
    let counted = records.job_stats(&filter(StatStep::Day, None)).await.unwrap();
    assert!(counted.unrolled_minutes > 50, "{counted:?}");
    let total = &only(&counted).total;
    assert_eq!((total.finished, total.succeeded, total.failed, total.cancelled), (150, 75, 38, 37));
    assert_eq!(total.success_rate, Some(75.0 / 113.0));
    let run = total.run.unwrap();
    assert!((1_900.0..2_100.0).contains(&run.p50_ms) && (1_900.0..2_100.0).contains(&run.p99_ms), "{run:?}");
    let wait = total.wait.unwrap();
    assert!((700.0..800.0).contains(&wait.p50_ms) && (1_400.0..1_560.0).contains(&wait.p99_ms), "{wait:?}");

    let before = all(&records).await;
    let now = day() + 9_000.seconds();
    // What is not over yet is not added up: the last minutes are counted from the jobs.
    let (hours, rolled) = roll_up(&records, day() + 5_000.seconds()).await;
    assert!(hours == 2 && rolled.minutes > 30, "{hours} {rolled:?}");
    assert_eq!(all(&records).await, before);
    assert_eq!(roll_up(&records, now + 2.minutes()).await.0, 2);
    assert_eq!(all(&records).await, before);
    assert_eq!(records.job_stats(&filter(StatStep::Day, None)).await.unwrap().unrolled_minutes, 0);

    // More of the same minutes.
    records.archive(&jobs[150..]).await.unwrap();
    let more = all(&records).await;
    assert_eq!(only(&more[0]).total.finished, 200);
    roll_up(&records, now + 2.minutes()).await;
    assert_eq!(all(&records).await, more);
    let by_kind = &more[1];
    let names: Vec<_> = by_kind.series.iter().map(|series| series.name.as_deref().unwrap()).collect();
    assert_eq!(names.len(), 3);
    let sum: u64 = by_kind.series.iter().flat_map(|series| &series.points).map(|point| point.figures.finished).sum();
    assert_eq!(sum, 200);

    let acme = StatFilter {
        tenant: Some("acme".parse().unwrap()),
        kind: Some("sms.send".parse().unwrap()),
        ..filter(StatStep::Hour, Some(StatDimension::Tenant))
    };
    let acme = records.job_stats(&acme).await.unwrap();
    assert_eq!(only(&acme).name.as_deref(), Some("acme"));
    let wanted = jobs.iter().filter(|it| it.job.tenant.is_some() && it.job.kind.as_str() == "sms.send").count();
    assert_eq!(only(&acme).total.finished, wanted as u64);
}

async fn a_job_that_ends_once_more_counts_at_its_new_end(place: Place) {
    let records = place.open().await;
    let failed = ended(30, State::Failed, "media.probe");
    let mut again = ended(600, State::Succeeded, "media.probe");
    (again.job.id, again.job.version) = (failed.job.id.clone(), 2);
    records.archive(&[failed]).await.unwrap();
    roll_up(&records, day() + 1.hour()).await;
    records.archive(&[again.clone()]).await.unwrap();
    for _ in 0..2 {
        let stats = records.job_stats(&filter(StatStep::Minute, None)).await.unwrap();
        let points: Vec<_> = only(&stats).points.iter().map(|point| (point.at, point.figures.succeeded)).collect();
        assert_eq!(points, [(day() + 10.minutes(), 1)]);
        assert_eq!(only(&stats).total.finished, 1);
        roll_up(&records, day() + 1.hour()).await;
    }
}

async fn jobs_that_are_recorded_late_count_in_their_minute(place: Place) {
    let records = place.open().await;
    records.archive(&[ended(7_000, State::Succeeded, "media.probe")]).await.unwrap();
    roll_up(&records, day() + 3.hours()).await;
    records.archive(&[ended(30, State::Failed, "media.probe")]).await.unwrap();
    assert_eq!(roll_up(&records, day() + 20.hours()).await, (1, Rolled { minutes: 1, too_late: 0 }));
    let stats = records.job_stats(&filter(StatStep::Hour, None)).await.unwrap();
    let points: Vec<_> = only(&stats).points.iter().map(|point| (point.at, point.figures.failed)).collect();
    assert_eq!(points, [(day(), 1), (day() + 1.hour(), 0)]);
    let days = records.job_stats(&filter(StatStep::Day, None)).await.unwrap();
    assert_eq!(only(&days).total.finished, 2);
}

async fn two_who_add_up_at_once_count_nothing_twice(place: Place) {
    let records = place.open().await;
    let rounds = place.at_once(6, |number, records| async move {
        for round in 0..20 {
            let second = i64::from(round) * 61;
            let jobs: Vec<_> = (0..5).map(|_| ended(second, State::Succeeded, "media.probe")).collect();
            records.archive(&jobs).await.unwrap();
            if number % 2 == 0 {
                roll_up(&records, day() + 2.hours()).await;
            }
        }
    });
    rounds.await;
    roll_up(&records, day() + 2.hours()).await;
    for step in [StatStep::Minute, StatStep::Hour, StatStep::Day] {
        let stats = records.job_stats(&filter(step, None)).await.unwrap();
        assert_eq!((only(&stats).total.finished, stats.unrolled_minutes), (600, 0), "{step}");
    }
}

async fn statistics_outlive_the_jobs_and_are_counted_again_as_far_as_these_go_back(place: Place) {
    let records = place.open().await;
    let jobs: Vec<_> = (0..10).map(|number| ended(number * 600, State::Succeeded, "media.probe")).collect();
    records.archive(&jobs).await.unwrap();
    let now = day() + 3.hours();
    roll_up(&records, now).await;
    let before = all(&records).await;
    let old = OldJobs { before: day() + 1.hour(), queue: None };
    assert_eq!(records.delete_old_jobs(&old, None).await.unwrap().deleted, 6);
    assert_eq!(all(&records).await, before);
    // All of it again: what is gone stays as it was counted.
    records.recount(day(), now).await.unwrap();
    assert_eq!(all(&records).await, before);
    assert_eq!(roll_up(&records, now).await, (2, Rolled { minutes: 4, too_late: 6 }));
    assert_eq!(all(&records).await, before);
}

async fn old_minutes_and_hours_go_and_days_stay(place: Place) {
    let records = place.open().await;
    records.archive(&[ended(30, State::Succeeded, "media.probe")]).await.unwrap();
    let later = day() + (24 * 10).hours();
    assert_eq!(records.prune_stats(later).await.unwrap(), 0, "it is not added up yet");
    roll_up(&records, later).await;
    assert_eq!(records.prune_stats(later).await.unwrap(), 1);
    assert_eq!(records.prune_stats(later).await.unwrap(), 0);
    let finished = async |step| only(&records.job_stats(&filter(step, None)).await.unwrap()).total.finished;
    assert_eq!((finished(StatStep::Minute).await, finished(StatStep::Hour).await), (0, 1));
    assert_eq!(records.prune_stats(day() + (24 * 402).hours()).await.unwrap(), 1);
    assert_eq!((finished(StatStep::Hour).await, finished(StatStep::Day).await), (0, 1));
    // What comes that late must not undo the hour and the day.
    records.archive(&[ended(90, State::Succeeded, "media.probe")]).await.unwrap();
    assert_eq!(roll_up(&records, later).await, (1, Rolled { minutes: 0, too_late: 1 }));
    assert_eq!(finished(StatStep::Day).await, 1);
}
