//! Leases that end, runs that are lost, and who is to blame.

use std::time::Duration;

use fourmi_model::State;
use fourmi_queue::{Lease, Outcome};

use crate::bench::{Bench, HOUR, KEEP, LEASE, SHORT, error, retrying, submission, succeeded};

async fn a_run_that_lost_its_lease_cannot_settle_renew_or_report(bench: Bench) {
    let id = bench.push_plain().await;
    let (_, old) = bench.fetch_one().await;
    bench.expire(old);
    assert_eq!(bench.reclaim().await, 1);

    let fetched = bench.transitions.fetch("w2", 1, LEASE, true).await.unwrap();
    let new = fetched.claims[0].key();
    assert_eq!(new.number, old.number + 1);
    assert!(!bench.settle(old, succeeded()).await);
    assert_eq!(bench.transitions.renew(LEASE, &[old, new]).await.unwrap(), [Lease::Lost, Lease::Renewed]);
    let news = [(old, r#"{"stage":"x","percent":1}"#.to_owned())];
    assert_eq!(bench.transitions.progress(&news).await.unwrap(), [false]);
    assert!(bench.settle(new, succeeded()).await);
    assert_eq!(bench.queues.runs(&id).await.unwrap()[0].error.code, "worker_lost");
}

async fn an_expired_lease_that_nobody_reclaimed_still_counts(bench: Bench) {
    bench.push_plain().await;
    let (_, run) = bench.fetch_one().await;
    bench.expire(run);
    assert_eq!(bench.transitions.renew(LEASE, &[run]).await.unwrap(), [Lease::Renewed]);
    assert_eq!(bench.reclaim().await, 0);
    bench.expire(run);
    assert!(bench.settle(run, succeeded()).await);
}

async fn after_an_outage_every_lease_gets_one_more_lease_of_time(bench: Bench) {
    let id = bench.push_plain().await;
    let (_, run) = bench.fetch_one().await;
    bench.expire(run);
    // The first look ever comes after a gap, by definition.
    assert_eq!(bench.transitions.reclaim(100, LEASE).await.unwrap(), 0);
    assert_eq!(bench.transitions.reclaim(100, LEASE).await.unwrap(), 0);
    assert_eq!(bench.state(&id).await, State::Running);
}

async fn a_lost_run_is_not_held_against_the_job_but_an_in_process_job_next_runs_alone(bench: Bench) {
    let id = bench.push_plain().await;
    let (_, run) = bench.fetch_one().await;
    bench.expire(run);
    bench.reclaim().await;
    let job = bench.job(&id).await;
    assert_eq!((job.state, job.attempts, job.crashes), (State::Waiting, 0, 0));

    // A busy worker is asked to make itself idle and gets nothing else meanwhile.
    bench.push_plain().await;
    let busy = bench.transitions.fetch("w1", 10, LEASE, false).await.unwrap();
    assert!(busy.must_be_idle && busy.claims.is_empty());
    // Others go on.
    let other = bench.transitions.fetch("w2", 10, LEASE, false).await.unwrap();
    assert!(!other.must_be_idle && other.claims.len() == 1 && other.claims[0].id != id);
    // Once idle, it gets the suspect, and the suspect only.
    bench.push_plain().await;
    let idle = bench.transitions.fetch("w1", 10, LEASE, true).await.unwrap();
    assert!(idle.claims.len() == 1 && idle.claims[0].alone && idle.claims[0].id == id);
}

async fn a_job_that_takes_its_worker_down_alone_three_times_has_failed(bench: Bench) {
    let id = bench.push_plain().await;
    let (_, run) = bench.fetch_one().await;
    bench.expire(run);
    bench.reclaim().await;
    for crashes in 1..=3 {
        let claims = bench.transitions.fetch("w1", 1, LEASE, true).await.unwrap().claims;
        bench.expire(claims[0].key());
        bench.reclaim().await;
        assert_eq!(bench.job(&id).await.crashes, crashes);
    }
    let job = bench.job(&id).await;
    assert_eq!((job.state, job.error.unwrap().code.as_str()), (State::Failed, "crashed"));
    let runs = bench.queues.runs(&id).await.unwrap();
    assert!(runs.len() == 4 && runs.iter().all(|run| run.error.code == "worker_lost"));
}

async fn a_suspect_that_was_given_back_or_delayed_still_runs_alone(bench: Bench) {
    let id = bench.push_plain().await;
    let (_, run) = bench.fetch_one().await;
    bench.expire(run);
    bench.reclaim().await;
    for delay in [Duration::ZERO, SHORT] {
        let claims = bench.transitions.fetch("w1", 1, LEASE, true).await.unwrap().claims;
        assert!(claims[0].alone);
        bench.settle(claims[0].key(), Outcome::Released { delay }).await;
        bench.queues.retry(&id).await.unwrap(); // Ends a delay.
    }
    let busy = bench.transitions.fetch("w2", 1, LEASE, false).await.unwrap();
    assert!(busy.claims.is_empty() && busy.must_be_idle);
    // Once it has come to an end alone it is no suspect any more, and losing its next run is no crash.
    let claims = bench.transitions.fetch("w2", 1, LEASE, true).await.unwrap().claims;
    bench.settle(claims[0].key(), retrying(Duration::ZERO)).await;
    let (_, run) = bench.fetch_one().await;
    bench.expire(run);
    bench.reclaim().await;
    assert_eq!(bench.job(&id).await.crashes, 0);
}

async fn the_third_crash_of_a_child_ends_the_job(bench: Bench) {
    let id = bench.push_plain().await;
    for crashes in 1..=3 {
        let (_, run) = bench.fetch_one().await;
        bench.settle(run, Outcome::Crashed { error: error(), delay: Duration::ZERO, keep: KEEP }).await;
        let job = bench.job(&id).await;
        assert_eq!((job.crashes, job.attempts), (crashes, 0), "a crash is no attempt");
    }
    let job = bench.job(&id).await;
    let error = job.error.unwrap();
    assert_eq!((job.state, error.code.as_str(), error.retryable), (State::Failed, "crashed", false));
    // Each run says how it died.
    assert!(bench.queues.runs(&id).await.unwrap().iter().all(|run| run.error == self::error()));
}

async fn an_endless_job_may_crash_again_after_ten_minutes_that_went_well(bench: Bench) {
    let crash = || Outcome::Crashed { error: error(), delay: Duration::ZERO, keep: KEEP };
    let next = async || bench.transitions.fetch("w1", 1, LEASE, true).await.unwrap().claims[0].key();
    let minutes = |n: u64| Duration::from_secs(n * 60);
    for (endless, lasted, crashes) in
        [(true, minutes(11), [1, 1, 1]), (true, minutes(9), [1, 2, 3]), (false, minutes(11), [1, 2, 3])]
    {
        let mut submission = submission();
        submission.endless = endless;
        let in_child = bench.push(submission.clone()).await;
        for crashes in crashes {
            let run = next().await;
            bench.rewind(run, lasted, Duration::ZERO);
            bench.settle(run, crash()).await;
            assert_eq!(bench.job(&in_child).await.crashes, crashes);
        }
        bench.queues.cancel(&in_child).await.unwrap();

        let alone = bench.push(submission).await;
        bench.expire(next().await);
        bench.reclaim().await;
        for crashes in crashes {
            let run = next().await;
            // That its loss is found late does not make the run longer.
            bench.rewind(run, lasted + HOUR, HOUR);
            assert_eq!(bench.reclaim().await, 1);
            assert_eq!(bench.job(&alone).await.crashes, crashes);
        }
        bench.queues.cancel(&alone).await.unwrap();
    }
}

promises! {
    a_run_that_lost_its_lease_cannot_settle_renew_or_report,
    an_expired_lease_that_nobody_reclaimed_still_counts,
    after_an_outage_every_lease_gets_one_more_lease_of_time,
    a_lost_run_is_not_held_against_the_job_but_an_in_process_job_next_runs_alone,
    a_job_that_takes_its_worker_down_alone_three_times_has_failed,
    a_suspect_that_was_given_back_or_delayed_still_runs_alone,
    the_third_crash_of_a_child_ends_the_job,
    an_endless_job_may_crash_again_after_ten_minutes_that_went_well,
}
