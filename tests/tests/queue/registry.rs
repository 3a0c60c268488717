//! The worker processes of a queue: who lives, what each may do, and what becomes of those that fall silent.

use std::time::Duration;

use fourmi_model::WorkerInfo;
use fourmi_queue::{Orders, QueueBackend, WorkerConfig};
use fourmi_tests::eventually_async;

use crate::bench::{Bench, LEASE};

/// A process that describes itself.
pub(crate) fn process(bench: &Bench, name: &str, slots: u32) -> WorkerInfo {
    WorkerInfo {
        name: name.to_owned(),
        queue: bench.name.clone(),
        host: "here".to_owned(),
        pid: 4_711,
        version: "1.2.3".to_owned(),
        kinds: [("test.echo".parse().unwrap(), 1), ("test.greet".parse().unwrap(), 2)].into(),
        slots,
        busy: 0,
        jobs: Vec::new(),
        memory_bytes: 12_345_678,
        cpu_percent: 12.5,
        started_at: "2027-01-31T08:00:00Z".parse().unwrap(),
        last_seen: jiff::Timestamp::UNIX_EPOCH,
        draining: false,
    }
}

/// Lets the last beat of a process, and what was there before, be so long ago.
fn silence(bench: &Bench, worker: &str, ago: Duration) {
    let then = jiff::Timestamp::now().as_millisecond() - i64::try_from(ago.as_millis()).unwrap();
    bench.redis.ask(redis::cmd("ZADD").arg(bench.key("workers")).arg(then).arg(worker))
}

async fn names(bench: &Bench) -> Vec<String> {
    bench.queues.workers(&bench.name).await.unwrap().into_iter().map(|worker| worker.name).collect()
}

async fn slots(bench: &Bench, workers: &[&str]) -> Vec<u32> {
    let mut slots = Vec::new();
    for worker in workers {
        slots.push(bench.transitions.beat(&process(bench, worker, 8)).await.unwrap().slots);
    }
    slots
}

#[tokio::test]
async fn a_worker_is_read_as_it_described_itself_and_is_gone_when_it_leaves() {
    let bench = Bench::new().await;
    let mut one = process(&bench, "one", 4);
    one.busy = 3;
    one.jobs = (0..300).map(|_| bench.new_id()).collect();
    assert_eq!(bench.transitions.beat(&one).await.unwrap(), Orders { slots: 4, drain: false });
    let read = bench.queues.workers(&bench.name).await.unwrap().remove(0);
    assert!((jiff::Timestamp::now().as_millisecond() - read.last_seen.as_millisecond()).abs() < 60_000);
    one.jobs.truncate(200);
    assert_eq!(read, WorkerInfo { last_seen: read.last_seen, ..one.clone() });
    assert!(read.knows(&"test.greet".parse().unwrap(), 1) && !read.knows(&"test.greet".parse().unwrap(), 3));

    bench.transitions.leave("one").await.unwrap();
    assert!(names(&bench).await.is_empty());
    let keys: Vec<String> = bench.redis.ask(
        redis::cmd("EVAL").arg("return redis.call('KEYS', ARGV[1])").arg(1).arg(bench.key("m")).arg(bench.key("w*")),
    );
    assert!(keys.is_empty(), "{keys:?}");
}

#[tokio::test]
async fn a_silent_worker_is_dead_after_fifteen_seconds_but_not_because_redis_was_away() {
    let bench = Bench::new().await;
    for name in ["live", "quiet", "silent"] {
        bench.transitions.beat(&process(&bench, name, 1)).await.unwrap();
    }
    silence(&bench, "quiet", Duration::from_secs(14));
    silence(&bench, "silent", Duration::from_secs(16));
    assert_eq!(names(&bench).await, ["live", "quiet"]);
    bench.transitions.beat(&process(&bench, "live", 1)).await.unwrap();
    let known =
        |worker: &str| -> bool { bench.redis.ask(redis::cmd("EXISTS").arg(bench.key(&format!("wk:{worker}")))) };
    assert!(known("live") && known("quiet") && !known("silent"));

    // Nobody could beat for a minute: who comes back first forgets nobody yet.
    for name in ["live", "quiet"] {
        silence(&bench, name, Duration::from_secs(60));
    }
    bench.transitions.beat(&process(&bench, "live", 1)).await.unwrap();
    assert!(known("quiet"));
    bench.transitions.beat(&process(&bench, "live", 1)).await.unwrap();
    assert!(!known("quiet"));
}

#[tokio::test]
async fn the_slots_of_a_queue_are_shared_out_among_those_that_do_not_drain() {
    let bench = Bench::new().await;
    let all = ["a", "b", "c"];
    assert_eq!(slots(&bench, &all).await, [8, 8, 8]);
    bench.queues.set_slots(&bench.name, Some(7)).await.unwrap();
    assert_eq!(slots(&bench, &all).await, [3, 2, 2]);
    bench.queues.set_slots(&bench.name, Some(2)).await.unwrap();
    assert_eq!(slots(&bench, &all).await, [1, 1, 0]);
    assert!(bench.queues.drain(&bench.name, "b").await.unwrap());
    assert!(!bench.queues.drain(&bench.name, "x").await.unwrap());
    assert_eq!(slots(&bench, &all).await, [1, 0, 1]);
    let draining: Vec<bool> =
        bench.queues.workers(&bench.name).await.unwrap().iter().map(|worker| worker.draining).collect();
    assert_eq!(draining, [false, true, false]);
    bench.queues.set_slots(&bench.name, None).await.unwrap();
    assert_eq!(slots(&bench, &all).await, [8, 8, 8]);
}

#[tokio::test]
async fn a_backend_says_what_it_does_and_hears_what_it_shall_do() {
    let bench = Bench::new().await;
    bench.queues.set_slots(&bench.name, Some(3)).await.unwrap();
    let config = WorkerConfig { slots: 9, lease: LEASE, ..WorkerConfig::new("one") };
    let backend = QueueBackend::start(&bench.queues, bench.name.clone(), config).await.unwrap();
    let handle = backend.handle();
    let mine = async || bench.queues.workers(&bench.name).await.unwrap().remove(0);
    let worker = mine().await;
    assert_eq!((worker.slots, worker.pid, worker.draining), (3, std::process::id(), false));
    assert!(worker.memory_bytes > 100_000 && !worker.host.is_empty());

    bench.push_plain().await;
    bench.queues.set_slots(&bench.name, None).await.unwrap();
    let worker = eventually_async("its own slots again, and the job", async || {
        Some(mine().await).filter(|worker| worker.slots == 9 && worker.jobs.len() == 1)
    });
    assert!(worker.await.cpu_percent >= 0.0);
    handle.set_slots(5);
    eventually_async("fewer slots", async || (mine().await.slots == 5).then_some(())).await;

    assert!(bench.queues.drain(&bench.name, "one").await.unwrap());
    tokio::time::timeout(Duration::from_secs(60), handle.told_to_drain()).await.unwrap();
}
