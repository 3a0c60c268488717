//! What happens when Redis is full, gone, silent or not set up as it must be.

use std::{sync::Arc, time::Duration};

use fourmi_model::State;
use fourmi_queue::{Outcome, QueueError};
use fourmi_tests::{Topology, eventually_async};

use crate::{
    bench::{Bench, payload, submission},
    conformance::a_watched_job_is_followed_through,
};

#[tokio::test]
async fn a_full_redis_refuses_new_jobs_and_can_still_be_drained() {
    let redis = Topology::with(&["--maxmemory", "4mb", "--maxmemory-policy", "noeviction"]);
    let bench = Bench::on(Arc::new(redis), "test").await;
    let mut big = submission();
    big.envelope.payload = payload(&format!("\"{}\"", "x".repeat(40_000)));
    let mut accepted = 0;
    let refused = loop {
        match bench.queues.push(bench.new_id(), big.clone()).await {
            Ok(answer) => accepted += usize::from(!answer.unwrap().existing()),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, QueueError::Full { .. }), "{refused}");
    let mut done = 0;
    while let claims = bench.fetch(10).await
        && !claims.is_empty()
    {
        for (_, run) in claims {
            assert!(bench.settle(run, Outcome::Succeeded { result: String::new(), keep: Duration::ZERO }).await);
            done += 1;
        }
        bench.transitions.trim(1_000, (0, 0)).await.unwrap();
    }
    assert_eq!(done, accepted);
    let push = async || bench.queues.push(bench.new_id(), big.clone()).await.ok();
    eventually_async("Redis takes jobs again", push).await.unwrap();
}

#[tokio::test]
async fn new_jobs_are_refused_before_redis_is_full_and_others_go_on() {
    let bench = Bench::new().await;
    bench.push_plain().await;
    let limit = |bytes: u64| {
        let mut connection = bench.redis.server(0).connection();
        let () = redis::cmd("CONFIG").arg(&["SET", "maxmemory"]).arg(bytes).query(&mut connection).unwrap();
    };
    limit(bench.queues.health().await.unwrap().used_memory * 100 / 94);
    let push = async || bench.queues.push(bench.new_id(), submission()).await;
    let refused = eventually_async("a push is refused", async || push().await.err()).await;
    assert!(matches!(refused, QueueError::Full { .. }), "{refused}");
    let health = bench.queues.health().await.unwrap();
    assert!(health.used_memory < health.max_memory.unwrap(), "there is room left for what was accepted");
    let (_, run) = bench.fetch(1).await.pop().unwrap();
    assert!(bench.settle(run, Outcome::Succeeded { result: "1".into(), keep: Duration::from_secs(60) }).await);
    limit(0);
    eventually_async("jobs are taken again", async || push().await.ok()).await.unwrap();
}

#[tokio::test]
async fn a_redis_that_would_throw_jobs_away_is_refused() {
    let redis = Topology::with(&["--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru"]);
    let error = redis.connect().await.err().expect("refused");
    assert!(matches!(&error, QueueError::Unsuitable(text) if text.contains("noeviction")), "{error}");
}

#[tokio::test]
async fn with_redis_gone_a_push_fails_soon_and_succeeds_afterwards() {
    let bench = Bench::new().await;
    bench.push_plain().await;
    bench.redis.server(0).kill();
    let started = std::time::Instant::now();
    let error = bench.queues.push(bench.new_id(), submission()).await.unwrap_err();
    assert!(matches!(error, QueueError::Unavailable(_)), "{error}");
    assert!(started.elapsed() < Duration::from_secs(8));
    bench.redis.server(0).restart();
    while bench.queues.push(bench.new_id(), submission()).await.is_err() {}
    assert!(bench.count(State::Waiting).await >= 2);
}

#[tokio::test]
async fn a_redis_that_went_silent_is_left_for_a_new_connection() {
    let bench = Bench::new().await;
    bench.redis.server(0).freeze();
    let started = std::time::Instant::now();
    assert!(bench.queues.get(&bench.new_id()).await.is_err());
    assert!(started.elapsed() < Duration::from_secs(8));
    bench.redis.server(0).thaw();
    while bench.queues.get(&bench.new_id()).await.is_err() {}
}

#[tokio::test]
async fn a_watcher_gets_a_snapshot_then_what_follows_and_always_the_end() {
    let bench = Bench::new().await;
    a_watched_job_is_followed_through(&bench, || {
        let mut redis = bench.redis.server(0);
        redis.kill();
        redis.restart();
    })
    .await;
}
