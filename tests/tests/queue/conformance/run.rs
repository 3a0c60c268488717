//! A run from its start to its outcome.

use std::time::Duration;

use fourmi_model::{ParkReason, State};
use fourmi_queue::{Lease, Outcome, Settlement};

use crate::bench::{Bench, KEEP, LEASE, SHORT, error, retrying, submission, succeeded};

async fn a_job_goes_from_waiting_to_succeeded(bench: Bench) {
    let id = bench.push_plain().await;
    assert_eq!(bench.state(&id).await, State::Waiting);

    let (fetched, run) = bench.fetch_one().await;
    assert_eq!((fetched, run.number), (id.clone(), 1));
    let job = bench.job(&id).await;
    assert_eq!((job.state, job.run, job.attempts, job.worker.as_deref()), (State::Running, 1, 1, Some("w1")));

    assert!(bench.settle(run, succeeded()).await);
    let job = bench.job(&id).await;
    assert_eq!((job.state, job.result), (State::Succeeded, Some(serde_json::json!({"ok": true}))));
    assert!(job.finished_at.unwrap() >= job.started_at.unwrap() && job.started_at.unwrap() >= job.created_at);
    assert_eq!((bench.count(State::Succeeded).await, bench.count(State::Running).await), (1, 0));
}

async fn an_outcome_is_written_once(bench: Bench) {
    let id = bench.push_plain().await;
    let (_, run) = bench.fetch_one().await;
    assert!(bench.settle(run, succeeded()).await);
    assert!(!bench.settle(run, Outcome::Failed { error: error(), keep: KEEP }).await);
    assert_eq!(bench.state(&id).await, State::Succeeded);
}

async fn a_job_starts_at_its_millisecond_and_not_before(bench: Bench) {
    let mut later = submission();
    let start = jiff::Timestamp::now() + Duration::from_millis(137);
    later.not_before = Some(start);
    let id = bench.push(later).await;
    assert_eq!(bench.job(&id).await.due_at.unwrap().as_millisecond(), start.as_millisecond());
    loop {
        let fetched = bench.transitions.fetch("w1", 1, LEASE, false).await.unwrap();
        if !fetched.claims.is_empty() {
            break;
        }
        tokio::time::sleep(fetched.next_due.expect("it is announced")).await;
    }
    assert!(bench.job(&id).await.started_at.unwrap().as_millisecond() >= start.as_millisecond());
}

async fn a_retry_waits_to_the_millisecond(bench: Bench) {
    let id = bench.push_plain().await;
    let (_, run) = bench.fetch_one().await;
    bench.settle(run, retrying(Duration::from_millis(120))).await;
    let job = bench.job(&id).await;
    assert_eq!((job.state, job.error.unwrap().code.as_str()), (State::Retrying, "busy"));

    let fetched = bench.transitions.fetch("w1", 1, LEASE, false).await.unwrap();
    let due = fetched.next_due.expect("the retry is announced");
    assert!(fetched.claims.is_empty() && due <= Duration::from_millis(120));
    tokio::time::sleep(due + Duration::from_millis(2)).await;
    let claims = bench.transitions.fetch("w1", 1, LEASE, false).await.unwrap().claims;
    assert_eq!((claims[0].id.clone(), claims[0].run, claims[0].attempts), (id, 2, 2));
}

async fn given_back_and_parked_runs_are_no_attempts(bench: Bench) {
    let id = bench.push_plain().await;
    let (_, run) = bench.fetch_one().await;
    assert!(bench.settle(run, Outcome::Released { delay: Duration::ZERO }).await);
    assert_eq!((bench.job(&id).await.attempts, bench.job(&id).await.run), (0, 1));

    let (_, run) = bench.fetch_one().await;
    let parked = Outcome::Parked { error: error(), reason: ParkReason::Offline, keep: KEEP };
    assert!(bench.settle(run, parked).await);
    let job = bench.job(&id).await;
    assert_eq!((job.state, job.attempts, job.parked_reason), (State::Parked, 0, Some(ParkReason::Offline)));
    assert!(bench.fetch(1).await.is_empty());

    assert_eq!(bench.queues.unpark(&bench.name, ParkReason::Offline, None).await.unwrap().released, 1);
    assert_eq!(bench.fetch_one().await.1.number, 3);
}

async fn every_run_that_failed_can_be_inspected(bench: Bench) {
    let id = bench.push_plain().await;
    for delay in [Duration::ZERO, SHORT] {
        bench.queues.retry(&id).await.unwrap(); // Ends a delay.
        let (_, run) = bench.fetch_one().await;
        tokio::time::sleep(Duration::from_millis(3)).await; // It lasts.
        bench.settle(run, retrying(delay)).await;
    }
    let runs = bench.queues.runs(&id).await.unwrap();
    assert_eq!(runs.iter().map(|run| run.run).collect::<Vec<_>>(), [1, 2]);
    for run in runs {
        assert_eq!((run.worker.as_str(), run.error.code.as_str()), ("w1", "busy"));
        let lasted = run.ended_at.duration_since(run.started_at).as_millis();
        assert!(lasted >= 3 && i128::from(run.duration_ms) == lasted, "{run:?}");
    }
}

async fn ten_thousand_runs_are_fetched_renewed_and_settled_in_bounded_steps(bench: Bench) {
    let jobs: Vec<_> = (0..10_000).map(|_| (bench.new_id(), submission())).collect();
    bench.queues.push_many(&bench.name, &jobs).await.unwrap();
    let mut runs = Vec::new();
    while let claims = bench.fetch(10_000).await
        && !claims.is_empty()
    {
        assert!(claims.len() <= 1_000);
        runs.extend(claims.into_iter().map(|(_, run)| run));
    }
    assert_eq!(runs.len(), 10_000);
    assert!(bench.transitions.renew(LEASE, &runs).await.unwrap().iter().all(|lease| *lease == Lease::Renewed));
    let news: Vec<_> = runs.iter().map(|run| (*run, r#"{"stage":"x","percent":1}"#.to_owned())).collect();
    assert!(bench.transitions.progress(&news).await.unwrap().iter().all(|recorded| *recorded));
    let settlements: Vec<_> = runs.iter().map(|run| Settlement { run: *run, outcome: succeeded() }).collect();
    assert!(bench.transitions.settle(&settlements).await.unwrap().iter().all(|written| *written));
    assert_eq!((bench.count(State::Succeeded).await, bench.count(State::Running).await), (10_000, 0));
    assert_eq!(bench.transitions.trim(10_000, (0, 0)).await.unwrap(), 1_000);
}

promises! {
    a_job_goes_from_waiting_to_succeeded,
    an_outcome_is_written_once,
    a_job_starts_at_its_millisecond_and_not_before,
    a_retry_waits_to_the_millisecond,
    given_back_and_parked_runs_are_no_attempts,
    every_run_that_failed_can_be_inspected,
    ten_thousand_runs_are_fetched_renewed_and_settled_in_bounded_steps,
}
