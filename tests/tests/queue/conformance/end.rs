//! Cancelled, expired, run once more, forgotten.

use std::time::Duration;

use fourmi_model::{JobId, Retention, State};
use fourmi_queue::{Cancelled, Lease, Outcome, Retried};

use crate::bench::{Bench, KEEP, LEASE, SHORT, error, keyed, retrying, submission, succeeded};

async fn cancel_before_the_start_is_final_and_leaves_nothing_to_run(bench: Bench) {
    let mut later = submission();
    later.not_before = Some(jiff::Timestamp::now() + Duration::from_secs(3_600));
    let ids = [bench.push_plain().await, bench.push(later).await];
    for id in &ids {
        assert_eq!(bench.queues.cancel(id).await.unwrap(), Cancelled::Now);
        assert_eq!(bench.state(id).await, State::Cancelled);
        assert_eq!(bench.queues.cancel(id).await.unwrap(), Cancelled::AlreadyOver(State::Cancelled));
    }
    assert!(bench.fetch(10).await.is_empty());
    assert_eq!(bench.count(State::Cancelled).await, 2);
}

async fn cancel_of_a_running_job_asks_its_run_and_wins_over_a_retry(bench: Bench) {
    let id = bench.push_plain().await;
    let (_, run) = bench.fetch_one().await;
    assert_eq!(bench.queues.cancel(&id).await.unwrap(), Cancelled::Requested);
    assert!(bench.job(&id).await.cancel_requested);
    assert_eq!(bench.transitions.renew(LEASE, &[run]).await.unwrap(), [Lease::StopRequested]);
    assert!(bench.settle(run, retrying(SHORT)).await);
    assert_eq!(bench.state(&id).await, State::Cancelled);
    assert!(!bench.job(&id).await.cancel_requested);
}

async fn a_failed_or_cancelled_job_is_replayed_with_a_fresh_budget(bench: Bench) {
    let id = bench.push_plain().await;
    let (_, run) = bench.fetch_one().await;
    assert_eq!(bench.queues.retry(&id).await.unwrap(), Retried::NotPossible(State::Running));
    bench.settle(run, Outcome::Failed { error: error(), keep: KEEP }).await;
    assert_eq!(bench.queues.retry(&id).await.unwrap(), Retried::Waiting);
    let job = bench.job(&id).await;
    assert_eq!((job.state, job.attempts, job.run), (State::Waiting, 0, 1));

    let (_, run) = bench.fetch_one().await;
    assert_eq!(run.number, 2);
    bench.settle(run, Outcome::Succeeded { result: String::new(), keep: KEEP }).await;
    let job = bench.job(&id).await;
    assert_eq!((job.state, job.error, job.result), (State::Succeeded, None, None));
    assert_eq!(bench.queues.retry(&id).await.unwrap(), Retried::NotPossible(State::Succeeded));
    assert_eq!(bench.queues.retry(&bench.new_id()).await.unwrap(), Retried::Unknown);
}

async fn retry_lets_a_delayed_job_run_now(bench: Bench) {
    let mut later = submission();
    later.not_before = Some(jiff::Timestamp::now() + Duration::from_secs(3_600));
    let id = bench.push(later).await;
    assert_eq!(bench.state(&id).await, State::Scheduled);
    assert!(bench.fetch(1).await.is_empty());
    assert_eq!(bench.queues.retry(&id).await.unwrap(), Retried::Waiting);
    assert_eq!(bench.fetch_one().await.0, id);
}

async fn a_job_whose_deadline_has_passed_does_not_start(bench: Bench) {
    let mut late = submission();
    late.envelope.deadline = Some(jiff::Timestamp::now() - Duration::from_secs(1));
    let id = bench.push(late).await;
    assert!(bench.fetch(1).await.is_empty());
    let job = bench.job(&id).await;
    assert_eq!((job.state, job.error.unwrap().code.as_str()), (State::Failed, "expired"));
}

async fn a_deadline_fails_a_job_that_no_worker_fetches(bench: Bench) {
    let (now, mut late) = (jiff::Timestamp::now(), submission());
    late.envelope.deadline = Some(now + Duration::from_secs(3_600));
    let in_time = bench.push(late.clone()).await;
    late.envelope.deadline = Some(now - Duration::from_secs(1));
    let waiting = bench.push(late.clone()).await;
    late.not_before = Some(now + Duration::from_secs(60));
    let scheduled = bench.push(late.clone()).await;
    assert_eq!(bench.transitions.expire(100).await.unwrap(), 2);
    for id in [waiting, scheduled] {
        let job = bench.job(&id).await;
        assert_eq!((job.state, job.error.unwrap().code.as_str()), (State::Failed, "expired"));
    }
    assert_eq!((bench.count(State::Failed).await, bench.count(State::Waiting).await), (2, 1));
    assert_eq!(bench.fetch_one().await.0, in_time);
}

async fn the_error_of_a_job_that_expired_is_no_result_after_its_replay(bench: Bench) {
    let mut late = submission();
    late.envelope.deadline = Some(jiff::Timestamp::now() - Duration::from_secs(1));
    let id = bench.push(late).await;
    assert!(bench.fetch(1).await.is_empty());
    assert_eq!(bench.queues.retry(&id).await.unwrap(), Retried::Waiting);
    let (_, run) = bench.fetch_one().await;
    bench.settle(run, Outcome::Succeeded { result: String::new(), keep: KEEP }).await;
    let job = bench.job(&id).await;
    assert_eq!((job.state, job.result), (State::Succeeded, None));
}

async fn finished_jobs_are_forgotten_by_age_and_number_and_leave_no_key(bench: Bench) {
    for _ in 0..20 {
        bench.push(keyed(&uuid::Uuid::now_v7().to_string(), "{}")).await;
    }
    for (n, (_, run)) in bench.fetch(20).await.into_iter().enumerate() {
        let news = [(run, r#"{"stage":"x","percent":1}"#.to_owned())];
        bench.transitions.progress(&news).await.unwrap();
        let outcome = if n % 2 == 0 { succeeded() } else { Outcome::Failed { error: error(), keep: KEEP } };
        bench.settle(run, outcome).await;
    }
    bench.transitions.trim(1_000, (4, 3)).await.unwrap();
    assert_eq!((bench.count(State::Succeeded).await, bench.count(State::Failed).await), (4, 3));
    bench.transitions.trim(1_000, (0, 0)).await.unwrap();
    let (keys, claims): (Vec<_>, Vec<_>) = bench.keys().into_iter().partition(|key| !key.starts_with(&bench.key("i:")));
    assert_eq!(keys, [bench.key("m")]);
    // What remains of a key ends by itself.
    for claim in claims {
        let life: i64 = bench.redis.ask(redis::cmd("PTTL").arg(claim));
        assert!(life > 0);
    }
}

async fn every_end_keeps_a_job_as_long_as_its_kind_says(bench: Bench) {
    let hours = |hours: u64| Duration::from_secs(3_600 * hours);
    let mut kind = submission();
    kind.isolated = true;
    kind.retention = Retention { done: hours(2), failed: hours(3) };
    let mut late = kind.clone();
    late.envelope.deadline = Some(jiff::Timestamp::now() - Duration::from_secs(1));

    let cancelled = bench.push(kind.clone()).await;
    bench.queues.cancel(&cancelled).await.unwrap();
    let expired = bench.push(late.clone()).await;
    assert_eq!(bench.transitions.expire(100).await.unwrap(), 1);
    let met = bench.push(late).await;
    assert!(bench.fetch(10).await.is_empty());
    // Runs that a caller asked to stop: one is given back, one is lost.
    let mut stopped = Vec::new();
    for _ in 0..2 {
        stopped.push(bench.push(kind.clone()).await);
        let (id, run) = bench.fetch_one().await;
        bench.queues.cancel(&id).await.unwrap();
        if stopped.len() == 1 {
            bench.settle(run, Outcome::Released { delay: Duration::ZERO }).await;
        } else {
            bench.expire(run);
            bench.reclaim().await;
        }
    }
    // One that takes its worker down again and again.
    kind.isolated = false;
    let crashing = bench.push(kind).await;
    for _ in 0..4 {
        let claims = bench.transitions.fetch("w1", 1, LEASE, true).await.unwrap().claims;
        bench.expire(claims[0].key());
        bench.reclaim().await;
    }

    let now = jiff::Timestamp::now().as_millisecond();
    let kept = |index: &str, id: &JobId| {
        let until: Option<f64> = bench.redis.ask(redis::cmd("ZSCORE").arg(bench.key(index)).arg(id.uuid().to_string()));
        let left = until.unwrap_or_else(|| panic!("{id} is not in {index}")) - now as f64;
        (left / 3_600_000.0).round()
    };
    for id in [&cancelled, &stopped[0], &stopped[1]] {
        assert_eq!((bench.state(id).await, kept("done", id)), (State::Cancelled, 2.0));
    }
    for id in [&expired, &met, &crashing] {
        assert_eq!((bench.state(id).await, kept("dead", id)), (State::Failed, 3.0));
    }
}

promises! {
    cancel_before_the_start_is_final_and_leaves_nothing_to_run,
    cancel_of_a_running_job_asks_its_run_and_wins_over_a_retry,
    a_failed_or_cancelled_job_is_replayed_with_a_fresh_budget,
    retry_lets_a_delayed_job_run_now,
    a_job_whose_deadline_has_passed_does_not_start,
    a_deadline_fails_a_job_that_no_worker_fetches,
    the_error_of_a_job_that_expired_is_no_result_after_its_replay,
    finished_jobs_are_forgotten_by_age_and_number_and_leave_no_key,
    every_end_keeps_a_job_as_long_as_its_kind_says,
}
