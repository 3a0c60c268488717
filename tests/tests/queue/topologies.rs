//! The same promises on every kind of Redis, and what each kind survives.

use std::{sync::Arc, time::Instant};

use fourmi_kinds::JobKind;
use fourmi_model::{JobId, QueueName, State, Submission};
use fourmi_queue::{QueueError, Queues};
use fourmi_tests::{
    PASSWORD, Program, Topology, eventually_async,
    kinds::{Echo, QUEUE},
};
use tempfile::TempDir;

use crate::{
    bench::{Bench, submission},
    conformance::{a_watched_job_is_followed_through, all_promises_hold_on},
    control::obliterating_takes_two_words_and_leaves_other_queues_alone,
};

/// All that holds on any Redis, also when its connections are cut. The worker has lived through it.
async fn everything_holds_on(redis: &Arc<Topology>) -> (Program, TempDir) {
    let worker = start_worker(redis);
    all_promises_hold_on(redis).await;
    let bench = Bench::on(redis.clone(), "cut").await;
    a_watched_job_is_followed_through(&bench, || redis.cut_connections()).await;
    obliterating_takes_two_words_and_leaves_other_queues_alone(Bench::on(redis.clone(), "gone").await).await;
    all_are_run(&bench.queues, &push_until_accepted(&bench.queues, 20).await).await;
    worker
}

#[tokio::test]
async fn with_a_user_who_has_few_rights() {
    let redis = Arc::new(Topology::with_user());
    let _worker = everything_holds_on(&redis).await;

    let wrong = redis.url().replace("fourmi:", "fourmi:not-");
    let error = Queues::connect(&wrong).await.err().expect("refused");
    assert!(matches!(&error, QueueError::Unsuitable(text) if text.contains("REDIS_URL")), "{error}");
    assert!(!error.to_string().contains(PASSWORD), "{error}");
    let anonymous = redis.url().rsplit_once('@').unwrap().1;
    is_refused_for(&format!("redis://{anonymous}"), "REDIS_URL").await;
}

#[tokio::test]
async fn with_tls() {
    let redis = Arc::new(Topology::with_tls());
    let _worker = everything_holds_on(&redis).await;

    let error = Queues::connect(redis.url()).await.err().expect("an unknown authority");
    assert!(matches!(&error, QueueError::Unavailable(text) if text.contains("certificate")), "{error}");
    let plain = redis.url().replace("rediss", "redis");
    assert!(Queues::connect(&plain).await.is_err());
}

#[tokio::test]
async fn behind_a_sentinel_the_replica_takes_over_with_all_that_was_replicated() {
    let redis = Arc::new(Topology::behind_a_sentinel());
    let _worker = everything_holds_on(&redis).await;
    let queues = redis.connect().await.unwrap();
    let replica = redis.server(1).url();
    is_refused_for(&replica, "leads to a replica").await;
    let sentinel = redis.url().rsplit_once(',').and_then(|(_, last)| last.split_once('/')).unwrap().0;
    is_refused_for(&format!("redis://{sentinel}"), "redis+sentinel://").await;

    // The master dies while jobs are pushed, fetched and settled.
    let mut certain = push_until_accepted(&queues, 5_000).await;
    redis.wait_until_replicated();
    let (mut perhaps, mut killed) = (Vec::new(), None);
    // A quick failover may leave no push without an answer: then the first that the new master accepts is the last here.
    while perhaps.len() <= 50
        && let Ok(id) = push(&queues, &JobId::new(queue())).await
    {
        perhaps.push(id);
        if perhaps.len() == 50 {
            redis.server(0).kill();
            killed = Some(Instant::now());
        }
    }
    certain.extend(push_until_accepted(&queues, 50).await);
    println!("accepted again {:?} after the kill", killed.map(|killed| killed.elapsed()));

    all_are_run(&queues, &certain).await;
    // What the master had accepted in its last moment and not passed on may be gone; nothing else.
    let mut lost = 0;
    for id in &perhaps {
        lost += usize::from(queues.get(id).await.unwrap().is_none());
    }
    println!("{lost} of {} jobs that nobody had waited for were lost", perhaps.len());
}

#[tokio::test]
async fn as_a_cluster_of_three_whose_nodes_restart() {
    let redis = Arc::new(Topology::cluster());
    let _worker = everything_holds_on(&redis).await;
    for number in 0..3 {
        let keys: u64 = redis::cmd("DBSIZE").query(&mut redis.server(number).connection()).unwrap();
        assert!(keys > 0, "the queues lie on all nodes");
    }
    let node = redis.server(0).url();
    is_refused_for(&node, "redis+cluster://").await;

    let mut benches = Vec::new();
    for number in 0..6 {
        let bench = Bench::on(redis.clone(), &format!("restart{number}")).await;
        bench.push_plain().await;
        benches.push(bench);
    }
    for number in 0..3 {
        let mut server = redis.server(number);
        server.kill();
        server.restart();
    }
    for bench in &benches {
        let id = bench.new_id();
        let pushed = async || bench.queues.push(id.clone(), submission()).await.ok();
        eventually_async("a push is accepted", pushed).await.unwrap();
        assert_eq!(bench.count(State::Waiting).await, 2);
    }
    let queues = redis.connect().await.unwrap();
    all_are_run(&queues, &push_until_accepted(&queues, 20).await).await;
}

/// What is said to someone whose address leads to a server that is something else.
async fn is_refused_for(url: &str, reason: &str) {
    let error = Queues::connect(url).await.err().expect("refused");
    assert!(matches!(&error, QueueError::Unsuitable(text) if text.contains(reason)), "{error}");
}

/// A worker of its own, which is told nothing of what happens to its Redis.
fn start_worker(redis: &Topology) -> (Program, TempDir) {
    let data = TempDir::new().unwrap();
    let authorities = redis.authorities().map(|path| path.display().to_string());
    let environment = [
        ("REDIS_URL", redis.url().to_owned()),
        ("FOURMI_REDIS_CA", authorities.unwrap_or_default()),
        ("FOURMI_DATA", data.path().display().to_string()),
        ("FOURMI_LEASE_MS", "1500".to_owned()),
    ];
    let worker = Program::start("fourmi-test-worker", &[], environment);
    worker.wait_for_line("ready");
    (worker, data)
}

fn queue() -> QueueName {
    QUEUE.parse().unwrap()
}

async fn push(queues: &Queues, id: &JobId) -> Result<JobId, QueueError> {
    let job = serde_json::value::to_raw_value(&Echo { value: serde_json::json!(1) }).unwrap();
    let submission = Submission::new(Echo::NAME.parse().unwrap(), job);
    Ok(queues.push(id.clone(), submission).await?.unwrap().id)
}

/// Pushes jobs as a careful client does: again with the same id until Redis has answered.
async fn push_until_accepted(queues: &Queues, number: usize) -> Vec<JobId> {
    let pushes = (0..number).map(|_| async {
        let id = JobId::new(queue());
        eventually_async("a push is accepted", async || push(queues, &id).await.ok()).await
    });
    futures_util::future::join_all(pushes).await
}

async fn all_are_run(queues: &Queues, ids: &[JobId]) {
    for id in ids {
        let done = eventually_async("the job is run", async || {
            let job = queues.get(id).await.ok()?.unwrap_or_else(|| panic!("{id} is lost"));
            (job.state == State::Succeeded).then_some(job)
        });
        assert_eq!(done.await.result, Some(serde_json::json!(1)));
    }
}
