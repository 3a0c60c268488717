//! Failed jobs are found, replayed and purged.

use std::time::Duration;

use fourmi_model::{Failure, JobId, State};
use fourmi_queue::{DeadAction, JobFilter, Outcome, QueueError, Settlement};

use crate::bench::{Bench, KEEP, entries, error, keyed, submission, succeeded};

/// Pushes this many jobs, which fail with this code.
async fn fail(bench: &Bench, count: usize, code: &str) -> Vec<JobId> {
    let jobs: Vec<_> = (0..count).map(|_| (bench.new_id(), submission())).collect();
    bench.queues.push_many(&bench.name, &jobs).await.unwrap();
    let error = Failure::permanent(code, "no use").report();
    let settlements: Vec<_> = bench
        .fetch(count)
        .await
        .into_iter()
        .map(|(_, run)| Settlement { run, outcome: Outcome::Failed { error: error.clone(), keep: KEEP } })
        .collect();
    assert!(bench.transitions.settle(&settlements).await.unwrap().iter().all(|written| *written));
    jobs.into_iter().map(|(id, _)| id).collect()
}

/// Takes steps until the end; how many, and what they did.
async fn all_steps(bench: &Bench, action: DeadAction, filter: &JobFilter) -> (usize, u64, u64) {
    let (mut steps, mut matched, mut done, mut cursor) = (0, 0, 0, None);
    loop {
        let step = bench.queues.dead_step(&bench.name, action, filter, cursor.as_deref()).await.unwrap();
        (steps, matched, done, cursor) = (steps + 1, matched + step.matched, done + step.done, step.next);
        if cursor.is_none() {
            return (steps, matched, done);
        }
    }
}

async fn failed_jobs_are_replayed_by_filter_in_bounded_steps(bench: Bench) {
    // Many at the same moment, so that the place of a step lies among them.
    for _ in 0..2 {
        fail(&bench, 700, "busy").await;
        fail(&bench, 300, "broken").await;
    }
    let done = bench.push_plain().await;
    let (_, run) = bench.fetch_one().await;
    bench.settle(run, succeeded()).await;
    let cancelled = bench.push_plain().await;
    bench.queues.cancel(&cancelled).await.unwrap();

    let busy = JobFilter { error: Some("busy".into()), ..JobFilter::default() };
    let counted = all_steps(&bench, DeadAction::Count, &busy).await;
    assert_eq!((counted.1, counted.2, bench.count(State::Failed).await), (1_400, 0, 2_000));
    let (steps, matched, replayed) = all_steps(&bench, DeadAction::Replay, &busy).await;
    assert!(steps >= 2, "a step looks at a thousand");
    assert_eq!((matched, replayed), (1_400, 1_400));
    assert_eq!((bench.count(State::Failed).await, bench.count(State::Waiting).await), (600, 1_400));
    let runs = bench.fetch(1_000).await;
    let job = bench.job(&runs[0].0).await;
    assert_eq!((job.run, job.attempts), (2, 1));
    assert_eq!((bench.state(&done).await, bench.state(&cancelled).await), (State::Succeeded, State::Cancelled));
    let bad = bench.queues.dead_step(&bench.name, DeadAction::Count, &busy, Some("1_2_3")).await;
    assert!(matches!(bad, Err(QueueError::Corrupt(_))));
}

async fn what_fails_again_while_the_dead_letter_is_replayed_is_not_replayed_again(bench: Bench) {
    for _ in 0..2 {
        fail(&bench, 600, "busy").await;
    }
    let filter = JobFilter::default();
    let first = bench.queues.dead_step(&bench.name, DeadAction::Replay, &filter, None).await.unwrap();
    assert_eq!(first.done, 1_000);
    tokio::time::sleep(Duration::from_millis(2)).await; // What fails in this very millisecond would count.
    for (_, run) in bench.fetch(1_000).await {
        bench.settle(run, Outcome::Failed { error: error(), keep: KEEP }).await;
    }
    let mut cursor = first.next;
    let mut done = 0;
    while let Some(next) = cursor {
        let step = bench.queues.dead_step(&bench.name, DeadAction::Replay, &filter, Some(&next)).await.unwrap();
        (done, cursor) = (done + step.done, step.next);
    }
    assert_eq!(done, 200);
}

async fn failed_jobs_are_found_by_error_tag_kind_and_time(bench: Bench) {
    let old = fail(&bench, 2, "busy").await;
    let end = bench.job(&old[0]).await.finished_at.unwrap();
    let mut tagged = submission();
    tagged.envelope.tags = vec!["night".into()];
    let tagged = bench.push(tagged).await;
    let (_, run) = bench.fetch_one().await;
    tokio::time::sleep(Duration::from_millis(2)).await; // Another millisecond.
    bench.settle(run, Outcome::Failed { error: error(), keep: KEEP }).await;
    let later = bench.job(&tagged).await.finished_at.unwrap();
    let all = JobFilter::default;
    for (filter, count) in [
        (all(), 3),
        (JobFilter { error: Some("busy".into()), ..all() }, 3),
        (JobFilter { error: Some("bus".into()), ..all() }, 0),
        (JobFilter { tag: Some("night".into()), ..all() }, 1),
        (JobFilter { kind: Some("test.echo".parse().unwrap()), ..all() }, 3),
        (JobFilter { kind: Some("test.other".parse().unwrap()), ..all() }, 0),
        (JobFilter { finished_after: Some(later), ..all() }, 1),
        (JobFilter { finished_after: Some(end), finished_before: Some(later), ..all() }, 2),
        (JobFilter { finished_before: Some(end), ..all() }, 0),
    ] {
        assert_eq!(all_steps(&bench, DeadAction::Count, &filter).await.1, count, "{filter:?}");
        let listed = JobFilter { states: vec![State::Failed], ..filter };
        let page = bench.queues.list(&bench.name, &listed, None, 50).await.unwrap();
        assert_eq!(page.jobs.len() as u64, count, "{listed:?}");
    }
}

async fn purged_jobs_leave_no_key_and_right_counts(bench: Bench) {
    let succeeds = bench.push_plain().await;
    let (_, run) = bench.fetch_one().await;
    bench.settle(run, succeeded()).await;
    let mut keyed = keyed("k", "{}");
    keyed.envelope.deadline = Some(jiff::Timestamp::now() + Duration::from_secs(3_600));
    let failing = bench.push(keyed.clone()).await;
    let (_, run) = bench.fetch_one().await;
    bench.transitions.progress(&[(run, r#"{"stage":"x","percent":1}"#.to_owned())]).await.unwrap();
    bench.transitions.log(&[(run, entries(&["a word"]))]).await.unwrap();
    bench.settle(run, Outcome::Failed { error: error(), keep: KEEP }).await;
    let waiting = bench.push_plain().await;

    let purge = async |ids: &[JobId]| {
        let step = bench.queues.dead_jobs(&bench.name, DeadAction::Purge, ids).await.unwrap();
        (step.matched, step.done)
    };
    assert_eq!(purge(&[succeeds.clone(), waiting.clone(), bench.new_id()]).await, (0, 0));
    assert_eq!(purge(&[failing.clone(), failing.clone(), succeeds.clone()]).await, (1, 1));
    assert_eq!(bench.queues.get(&failing).await.unwrap(), None);
    let of_it = bench.keys().into_iter().filter(|key| key.contains(&failing.uuid().to_string()));
    assert_eq!(of_it.collect::<Vec<_>>(), Vec::<String>::new());
    assert!(!bench.keys().contains(&bench.key("dead")));
    let counts = [State::Failed, State::Succeeded, State::Waiting];
    let mut counted = Vec::new();
    for state in counts {
        counted.push(bench.count(state).await);
    }
    assert_eq!(counted, [0, 1, 1]);
    // The key of a job that is gone is free.
    assert!(!bench.queues.push(bench.new_id(), keyed).await.unwrap().unwrap().existing());
}

promises! {
    failed_jobs_are_replayed_by_filter_in_bounded_steps,
    what_fails_again_while_the_dead_letter_is_replayed_is_not_replayed_again,
    failed_jobs_are_found_by_error_tag_kind_and_time,
    purged_jobs_leave_no_key_and_right_counts,
}
