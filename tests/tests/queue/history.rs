//! What becomes of finished jobs: they are recorded once, and Redis does not grow.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use fourmi_kinds::JobKind;
use fourmi_model::{JobId, QueueName, State, Submission};
use fourmi_queue::{Consumer, Outbox, OutboxConfig, Outcome, Queues, Settlement, Transitions};
use fourmi_records::Records;
use fourmi_tests::{
    Platform, Program, RedisServer, Topology, eventually_async,
    kinds::{Echo, Fail, QUEUE},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::bench::{Bench, KEEP, LEASE, error, retrying, submission, succeeded};

/// The queue `media` of a platform without workers: the test ends its jobs.
struct Ending {
    queues: Queues,
    transitions: Transitions,
    queue: QueueName,
}

impl Ending {
    async fn of(platform: &Platform) -> Self {
        let queues = Queues::connect(&platform.redis.url()).await.unwrap();
        let queue: QueueName = "media".parse().unwrap();
        let transitions = Transitions::of(&queues, queue.clone()).await.unwrap();
        Self { queues, transitions, queue }
    }

    /// Pushes jobs and ends each in one of the three ways; gives their ids.
    async fn end_jobs(&self, number: usize) -> Vec<JobId> {
        let probe = || Submission::new("media.probe".parse().unwrap(), submission().envelope.payload);
        let jobs: Vec<_> = (0..number).map(|_| (JobId::new(self.queue.clone()), probe())).collect();
        self.queues.push_many(&self.queue, &jobs).await.unwrap();
        let ids: Vec<_> = jobs.into_iter().map(|(id, _)| id).collect();
        for id in ids.iter().step_by(3) {
            self.queues.cancel(id).await.unwrap();
        }
        self.settle_all().await;
        ids
    }

    /// Every second run fails.
    async fn settle_all(&self) {
        while let claims = self.transitions.fetch("w1", 200, LEASE, false).await.unwrap().claims
            && !claims.is_empty()
        {
            let settlements = claims.iter().enumerate().map(|(n, claim)| {
                let failed = Outcome::Failed { error: error(), keep: KEEP };
                Settlement { run: claim.key(), outcome: if n % 2 == 0 { failed } else { succeeded() } }
            });
            self.transitions.settle(&settlements.collect::<Vec<_>>()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn every_finished_job_is_recorded_once_however_often_the_archiver_is_killed() {
    const KILLS: u64 = 8;
    let mut platform = Platform::with(&[], 0).await;
    let ending = Ending::of(&platform).await;
    let records = Records::open(&platform.data().join("records.db")).await.unwrap();
    let mut ids = Vec::new();
    for kill in 1..=KILLS {
        // It is killed in the midst of its work: some of these jobs are recorded, and others are not.
        ids.extend(ending.end_jobs(2_000).await);
        let before = records.count().await.unwrap();
        eventually_async("a batch is recorded", async || (records.count().await.unwrap() > before).then_some(())).await;
        platform.api.kill();
        ids.extend(ending.end_jobs(100).await);
        println!("kill {kill}: {} of {} jobs are recorded", records.count().await.unwrap(), ids.len());
        platform.restart_api();
    }
    let outbox = async || {
        ending.queues.outbox(&ending.queue, Consumer::Records).await.unwrap().filter(|outbox| outbox.waiting == 0)
    };
    let outbox = eventually_async("the outbox is empty", outbox).await;
    assert_eq!(outbox.dropped, 0);
    assert_eq!(records.count().await.unwrap(), ids.len() as u64);
    let mut ends = BTreeMap::<State, usize>::new();
    for id in &ids {
        let job = ending.queues.get(id).await.unwrap().unwrap();
        let record = records.job(id).await.unwrap().unwrap_or_else(|| panic!("{id} is not recorded"));
        assert_eq!((record.job.state, record.job.version), (job.state, job.version));
        *ends.entry(job.state).or_default() += 1;
    }
    assert_eq!(ends.len(), 3, "{ends:?}");
}

#[tokio::test]
async fn a_job_that_redis_has_forgotten_is_read_from_its_record() {
    let platform = Platform::with(&[], 0).await;
    let ending = Ending::of(&platform).await;
    let ids = ending.end_jobs(6).await;
    let recorded = async |id: &JobId, version: u64| {
        let records = Records::open(&platform.data().join("records.db")).await.unwrap();
        eventually_async("the job is recorded", async || {
            records.job(id).await.unwrap().filter(|record| record.job.version >= version).map(drop)
        })
        .await;
    };
    // One is replayed, and ends once more.
    ending.queues.retry(&ids[0]).await.unwrap();
    ending.settle_all().await;
    let mut before = Vec::new();
    for id in &ids {
        let job = platform.get(&format!("/jobs/{id}")).await;
        assert!(job.get("archived").is_none());
        recorded(id, job["version"].as_u64().unwrap()).await;
        before.push((job, platform.get(&format!("/jobs/{id}/runs")).await));
    }
    assert!(before.iter().any(|(_, runs)| runs["runs"].as_array().unwrap().len() == 1));

    ending.transitions.trim(1_000, (0, 0)).await.unwrap();
    for (id, (mut job, runs)) in ids.iter().zip(before) {
        assert!(ending.queues.get(id).await.unwrap().is_none(), "Redis has forgotten it");
        job["archived"] = json!(true);
        assert_eq!(platform.get(&format!("/jobs/{id}")).await, job);
        assert_eq!(platform.get(&format!("/jobs/{id}/runs")).await, runs);
        for (call, code) in [("cancel", "already_over"), ("retry", "not_retryable")] {
            let answer = platform.request("POST", &format!("/jobs/{id}/{call}")).send().await.unwrap();
            assert_eq!(answer.status(), 409);
            assert_eq!(answer.json::<Value>().await.unwrap()["code"], code);
        }
    }
    let unknown = platform.request("GET", &format!("/jobs/{}", JobId::new(ending.queue.clone()))).send().await.unwrap();
    assert_eq!(unknown.status(), 404);
    let queues = platform.client.queues().await.unwrap();
    let media = queues.iter().find(|queue| queue.name == ending.queue).unwrap();
    assert_eq!((media.outbox.waiting, media.outbox.dropped), (0, 0));
}

#[tokio::test]
async fn redis_stays_as_it_is_under_load_that_goes_on_and_keeps_nothing_in_the_end() {
    const ROUNDS: usize = 100;
    const JOBS: usize = 300;
    let bench = Bench::on(Arc::new(Topology::with(&["--appendonly", "no"])), "test").await;
    let outbox = bench.outbox(OutboxConfig::default()).await;
    let folder = TempDir::new().unwrap();
    let records = Records::open(&folder.path().join("records.db")).await.unwrap();
    let mut redis = bench.redis.server(0).connection();
    let mut measured = Vec::new();
    for round in 1..=ROUNDS {
        one_round(&bench, JOBS).await;
        while bench.transitions.trim(1_000, (400, 100)).await.unwrap() == 1_000 {}
        archive_all(&outbox, &records).await;
        if round % 10 == 0 && round >= ROUNDS * 3 / 10 {
            let keys: u64 = redis::cmd("DBSIZE").query(&mut redis).unwrap();
            let memory: String = redis::cmd("INFO").arg("memory").query(&mut redis).unwrap();
            let used = memory.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
            measured.push((keys, used.trim().parse::<u64>().unwrap()));
        }
    }
    println!("keys and bytes: {measured:?}");
    let (keys, bytes) = measured[0];
    for (later_keys, later_bytes) in &measured {
        // A kept job has up to four keys; which of them end how differs from round to round.
        assert!(later_keys.abs_diff(keys) < 200, "{measured:?}");
        // Tables that grow and shrink in Redis's spare time take some of it; six bytes a job would be more than this.
        assert!(*later_bytes < bytes + bytes / 20, "{measured:?}");
    }

    assert_eq!(records.count().await.unwrap(), (ROUNDS * JOBS) as u64);
    while bench.transitions.trim(1_000, (0, 0)).await.unwrap() == 1_000 {}
    let mut left: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut redis).unwrap();
    left.sort();
    assert_eq!(left, [bench.key("m"), bench.key("out")]);
    assert_eq!(
        bench.queues.outbox(&bench.name, Consumer::Records).await.unwrap().map(|outbox| outbox.waiting),
        Some(0)
    );
}

/// Jobs of every kind of fate: all are over afterwards.
async fn one_round(bench: &Bench, number: usize) {
    let jobs: Vec<_> = (0..number).map(|_| (bench.new_id(), submission())).collect();
    bench.queues.push_many(&bench.name, &jobs).await.unwrap();
    for (id, _) in jobs.iter().step_by(10) {
        bench.queues.cancel(id).await.unwrap();
    }
    while let runs = bench.fetch(100).await
        && !runs.is_empty()
    {
        let news: Vec<_> =
            runs.iter().map(|(_, run)| (*run, r#"{"stage":"x","percent":1}"#.to_owned())).step_by(3).collect();
        bench.transitions.progress(&news).await.unwrap();
        let settlements = runs.into_iter().enumerate().map(|(n, (_, run))| {
            let outcome = match n % 5 {
                0 if run.number < 3 => retrying(Duration::ZERO),
                1 => Outcome::Failed { error: error(), keep: KEEP },
                _ => succeeded(),
            };
            Settlement { run, outcome }
        });
        bench.transitions.settle(&settlements.collect::<Vec<_>>()).await.unwrap();
    }
}

async fn archive_all(outbox: &Outbox, records: &Records) {
    while let batch = outbox.take(1_000).await.unwrap()
        && !batch.is_empty()
    {
        records.archive(&batch.records).await.unwrap();
        outbox.acknowledge(&batch).await.unwrap();
    }
}

#[tokio::test]
async fn a_worker_keeps_as_many_finished_jobs_as_it_is_told() {
    let redis = RedisServer::start();
    let data = TempDir::new().unwrap();
    let environment = [
        ("REDIS_URL", redis.url()),
        ("FOURMI_DATA", data.path().display().to_string()),
        ("FOURMI_KEEP_DONE", "3".to_owned()),
        ("FOURMI_KEEP_FAILED", "2".to_owned()),
    ];
    let worker = Program::start("fourmi-test-worker", &[], environment);
    worker.wait_for_line("ready");
    let queues = Queues::connect(&redis.url()).await.unwrap();
    let queue: QueueName = QUEUE.parse().unwrap();
    let mut ids = HashSet::new();
    for _ in 0..10 {
        let echo = serde_json::value::to_raw_value(&Echo { value: json!(1) }).unwrap();
        let fail = serde_json::value::to_raw_value(&Fail { times: 1, permanent: true, ..Fail::default() }).unwrap();
        for (name, payload) in [(Echo::NAME, echo), (Fail::NAME, fail)] {
            let id = JobId::new(queue.clone());
            let submission = Submission::new(name.parse().unwrap(), payload);
            ids.insert(queues.push(id, submission).await.unwrap().unwrap().id);
        }
    }
    eventually_async("the oldest are forgotten", async || {
        let counts = queues.counts(&queue).await.unwrap().0;
        let live: u64 = [State::Waiting, State::Running, State::Retrying].iter().map(|state| counts[state]).sum();
        (live == 0 && (counts[&State::Succeeded], counts[&State::Failed]) == (3, 2)).then_some(())
    })
    .await;
    let keys: u64 = redis::cmd("DBSIZE").query(&mut redis.connection()).unwrap();
    assert!(keys < 30, "{keys} keys for five jobs");
}
