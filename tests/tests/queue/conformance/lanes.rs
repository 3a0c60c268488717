//! Whose turn it is.

use std::time::Duration;

use fourmi_model::Priority;
use fourmi_queue::Outcome;

use crate::bench::{Bench, submission};

async fn jobs_of_one_priority_are_first_in_first_out(bench: Bench) {
    let mut ids = Vec::new();
    for _ in 0..50 {
        ids.push(bench.push_plain().await);
    }
    let mut fetched = Vec::new();
    for size in [1, 7, 20, 22] {
        fetched.extend(bench.fetch(size).await.into_iter().map(|(id, _)| id));
    }
    assert_eq!(fetched, ids);
}

async fn a_higher_priority_goes_first_and_a_lower_one_is_never_starved(bench: Bench) {
    let mut of = std::collections::HashMap::new();
    for priority in Priority::ALL {
        for _ in 0..70 {
            let mut submission = submission();
            submission.priority = *priority;
            of.insert(bench.push(submission).await, *priority);
        }
    }
    // One at a time, and in one batch: the shares are the same.
    let mut one_by_one = Vec::new();
    for _ in 0..60 {
        one_by_one.push(of[&bench.fetch_one().await.0]);
    }
    let batch: Vec<_> = bench.fetch(60).await.into_iter().map(|(id, _)| of[&id]).collect();
    for taken in [one_by_one, batch] {
        let shares = Priority::ALL.iter().map(|priority| taken.iter().filter(|it| *it == priority).count());
        assert_eq!(shares.collect::<Vec<_>>(), [32, 16, 8, 4]);
    }
}

async fn a_given_back_job_is_the_next_of_its_lane(bench: Bench) {
    let first = bench.push_plain().await;
    bench.push_plain().await;
    let (_, run) = bench.fetch_one().await;
    bench.settle(run, Outcome::Released { delay: Duration::ZERO }).await;
    assert_eq!(bench.fetch_one().await.0, first);
}

async fn an_isolated_job_of_a_dead_worker_goes_to_the_front_of_its_lane(bench: Bench) {
    let mut isolated = submission();
    isolated.isolated = true;
    let id = bench.push(isolated).await;
    let (_, run) = bench.fetch_one().await;
    bench.push_plain().await;
    bench.expire(run);
    bench.reclaim().await;
    assert_eq!(bench.fetch_one().await.0, id);
}

async fn a_job_that_is_cancelled_and_replayed_again_and_again_has_one_entry_in_its_lane(bench: Bench) {
    let id = bench.push_plain().await;
    bench.push_plain().await;
    for _ in 0..20 {
        bench.queues.cancel(&id).await.unwrap();
        bench.queues.retry(&id).await.unwrap();
    }
    let length: u64 = bench.redis.ask(redis::cmd("LLEN").arg(bench.key("w:2")));
    assert_eq!(length, 2);
    assert_eq!(bench.fetch_one().await.0, id);
}

promises! {
    jobs_of_one_priority_are_first_in_first_out,
    a_higher_priority_goes_first_and_a_lower_one_is_never_starved,
    a_given_back_job_is_the_next_of_its_lane,
    an_isolated_job_of_a_dead_worker_goes_to_the_front_of_its_lane,
    a_job_that_is_cancelled_and_replayed_again_and_again_has_one_entry_in_its_lane,
}
