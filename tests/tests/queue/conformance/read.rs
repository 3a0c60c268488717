//! Jobs are found and listed.

use std::{collections::HashSet, time::Duration};

use fourmi_model::{ParkReason, State};
use fourmi_queue::{JobFilter, Outcome, QueueError, Settlement};

use crate::bench::{Bench, KEEP, error, submission, succeeded};

async fn a_list_walks_through_all_jobs_page_by_page(bench: Bench) {
    let mut ids = HashSet::new();
    for n in 0..450 {
        let mut submission = submission();
        submission.envelope.tags = vec![if n % 3 == 0 { "fizz".into() } else { "plain".into() }];
        ids.insert(bench.push(submission).await);
    }
    for (_, run) in bench.fetch(100).await {
        bench.settle(run, succeeded()).await;
    }
    bench.fetch(5).await;
    let page = async |filter: JobFilter, limit| {
        let (mut jobs, mut cursor) = (Vec::new(), None);
        loop {
            let page = bench.queues.list(&bench.name, &filter, cursor.as_deref(), limit).await.unwrap();
            assert!(page.jobs.len() <= limit);
            jobs.extend(page.jobs);
            cursor = page.next;
            if cursor.is_none() {
                return jobs;
            }
        }
    };
    let all = page(JobFilter::default(), 37).await;
    assert_eq!(all.iter().map(|job| job.id.clone()).collect::<HashSet<_>>(), ids);
    assert_eq!(all.len(), 450);
    let running = page(JobFilter { states: vec![State::Running], ..JobFilter::default() }, 2).await;
    assert_eq!(running.len(), 5);
    let fizz = page(JobFilter { tag: Some("fizz".into()), ..JobFilter::default() }, 50).await;
    assert_eq!(fizz.len(), 150);
    let bad = bench.queues.list(&bench.name, &JobFilter::default(), Some("drop table"), 5).await;
    assert!(matches!(bad, Err(QueueError::Corrupt(_))));
}

async fn parked_jobs_are_listed_counted_and_released_by_reason(bench: Bench) {
    for (count, reason) in [(1_100, ParkReason::Offline), (3, ParkReason::NotConfigured)] {
        let jobs: Vec<_> = (0..count).map(|_| (bench.new_id(), submission())).collect();
        bench.queues.push_many(&bench.name, &jobs).await.unwrap();
        while let runs = bench.fetch(1_000).await
            && !runs.is_empty()
        {
            let parked = || Outcome::Parked { error: error(), reason, keep: KEEP };
            let settlements: Vec<_> = runs.into_iter().map(|(_, run)| Settlement { run, outcome: parked() }).collect();
            bench.transitions.settle(&settlements).await.unwrap();
        }
    }
    let parked = bench.queues.parked(&bench.name).await.unwrap();
    assert_eq!(parked, [(ParkReason::NotConfigured, 3), (ParkReason::Offline, 1_100)].into());
    let filter = JobFilter { parked_reason: Some(ParkReason::NotConfigured), ..JobFilter::default() };
    let page = bench.queues.list(&bench.name, &filter, None, 50).await.unwrap();
    assert_eq!((page.jobs.len(), page.jobs[0].parked_reason), (3, Some(ParkReason::NotConfigured)));

    let first = bench.queues.unpark(&bench.name, ParkReason::Offline, None).await.unwrap();
    assert_eq!(first.released, 1_000);
    tokio::time::sleep(Duration::from_millis(2)).await; // What is parked in this very millisecond would count.
    // Those that are parked again are not released again.
    for (_, run) in bench.fetch(10).await {
        bench.settle(run, Outcome::Parked { error: error(), reason: ParkReason::Offline, keep: KEEP }).await;
    }
    let second = bench.queues.unpark(&bench.name, ParkReason::Offline, first.next.as_deref()).await.unwrap();
    assert_eq!((second.released, second.next), (100, None));
    assert_eq!(bench.queues.parked(&bench.name).await.unwrap()[&ParkReason::Offline], 10);
    let bad = bench.queues.unpark(&bench.name, ParkReason::Offline, Some("x")).await;
    assert!(matches!(bad, Err(QueueError::Corrupt(_))));
}

promises! {
    a_list_walks_through_all_jobs_page_by_page,
    parked_jobs_are_listed_counted_and_released_by_reason,
}
