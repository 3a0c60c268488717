//! Flows with real workers: results of parents, jobs made by runs, and that nobody but the workers is needed.

use std::time::Duration;

use fourmi_kinds::JobKind;
use fourmi_model::{Job, JobId, Priority, QueueName, State, Submission};
use fourmi_queue::Queues;
use fourmi_tests::{
    Program, RedisServer, eventually_async,
    kinds::{Echo, Family, FamilyInChild, QUEUE},
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A Redis with one worker program.
struct Farm {
    redis: RedisServer,
    queues: Queues,
    _worker: Program,
    _data: TempDir,
}

impl Farm {
    async fn new() -> Self {
        let redis = RedisServer::start();
        let data = TempDir::new().unwrap();
        let environment = vec![
            ("REDIS_URL", redis.url()),
            ("FOURMI_DATA", data.path().display().to_string()),
            ("FOURMI_LEASE_MS", "1500".to_owned()),
        ];
        let worker = Program::start("fourmi-test-worker", &[], environment);
        let queues = Queues::connect(&redis.url()).await.unwrap();
        Self { redis, queues, _worker: worker, _data: data }
    }

    async fn push<K: JobKind>(&self, job: &K, after: &[&JobId]) -> JobId {
        let payload = serde_json::value::to_raw_value(job).unwrap();
        let mut submission = Submission::new(K::NAME.parse().unwrap(), payload);
        submission.note(&K::policy());
        submission.envelope.correlation_id = Some("request 7".to_owned());
        submission.tenant = Some("acme".parse().unwrap());
        submission.envelope.after = after.iter().map(|id| (*id).clone()).collect();
        self.queues.push(JobId::new(QUEUE.parse().unwrap()), submission).await.unwrap().unwrap().id
    }

    async fn end(&self, id: &JobId) -> Job {
        let over = async || self.queues.get(id).await.unwrap().filter(|job| job.state.is_final());
        eventually_async("the job is over", over).await
    }
}

#[tokio::test]
async fn a_run_has_the_results_of_those_before_it_at_hand() {
    let farm = Farm::new().await;
    let parents =
        [farm.push(&Echo { value: json!({"n": 1}) }, &[]).await, farm.push(&Echo { value: json!(2) }, &[]).await];
    let after: Vec<&JobId> = parents.iter().collect();
    let here = farm.push(&Family { children: 0, failures: 0 }, &after).await;
    let in_child = farm.push(&FamilyInChild(Family { children: 0, failures: 0 }), &after).await;
    for id in [here, in_child] {
        let result = farm.end(&id).await.result.unwrap();
        let expected = json!([
            {"id": parents[0], "state": "succeeded", "result": {"n": 1}},
            {"id": parents[1], "state": "succeeded", "result": 2},
        ]);
        assert_eq!(result["parents"], expected);
    }
    // Who waits for nobody knows of nobody.
    let alone = farm.push(&Family { children: 0, failures: 0 }, &[]).await;
    assert_eq!(farm.end(&alone).await.result.unwrap()["parents"], json!([]));
}

#[tokio::test]
async fn a_run_that_is_repeated_makes_its_children_once() {
    let farm = Farm::new().await;
    let family = || Family { children: 3, failures: 2 };
    let here = farm.push(&family(), &[]).await;
    let in_child = farm.push(&FamilyInChild(family()), &[]).await;
    for id in [here, in_child] {
        let parent = farm.end(&id).await;
        assert_eq!((parent.state, parent.attempts), (State::Succeeded, 3));
        let made: Vec<JobId> = serde_json::from_value(parent.result.unwrap()["made"].clone()).unwrap();
        assert_eq!(made[0], id.child(QUEUE.parse().unwrap(), "child 0"));
        for (n, child) in made.iter().enumerate() {
            let child = farm.end(child).await;
            assert_eq!((child.state, child.result, child.run), (State::Succeeded, Some(json!(n)), 1));
            assert_eq!((child.parent.as_ref(), child.priority), (Some(&id), Priority::High));
            assert_eq!(
                (child.tags.as_slice(), child.after.as_slice()),
                (&["child".to_owned()][..], &made[n.saturating_sub(1)..n])
            );
            assert_eq!((child.correlation_id.as_deref(), child.tenant.unwrap().as_str()), (Some("request 7"), "acme"));
        }
        let flow = farm.queues.flow(std::slice::from_ref(&id)).await.unwrap();
        assert_eq!((flow.jobs.len(), flow.edges.len()), (4, 5), "three children, two of them after another");
    }
    let total: u64 = farm.queues.counts(&QUEUE.parse().unwrap()).await.unwrap().0.values().sum();
    assert_eq!(total, 8);
}

#[tokio::test]
async fn a_run_that_has_lost_its_lease_makes_no_job() {
    let farm = Farm::new().await;
    let queue: QueueName = "other".parse().unwrap();
    let transitions = fourmi_queue::Transitions::of(&farm.queues, queue.clone()).await.unwrap();
    let submission =
        Submission::new("test.echo".parse().unwrap(), serde_json::value::to_raw_value(&Value::Null).unwrap());
    let id = farm.queues.push(JobId::new(queue.clone()), submission).await.unwrap().unwrap().id;
    let run = transitions.fetch("w1", 1, Duration::from_secs(30), true).await.unwrap().claims[0].key();
    let child = id.child(queue, "child");
    assert_eq!(transitions.note_child(run, &child).await.unwrap(), Some(None));
    let stale = fourmi_queue::Run { number: run.number + 1, ..run };
    assert_eq!(transitions.note_child(stale, &child).await.unwrap(), None);
}

#[tokio::test]
async fn a_restart_of_redis_holds_up_no_flow() {
    let mut farm = Farm::new().await;
    let mut last = farm.push(&Echo { value: json!(0) }, &[]).await;
    let mut ids = vec![last.clone()];
    for n in 1..30 {
        last = farm.push(&Echo { value: json!(n) }, &[&last]).await;
        ids.push(last.clone());
    }
    eventually_async("it has begun", async || {
        farm.queues.get(&ids[2]).await.ok().flatten().filter(|job| job.state.is_final()).map(drop)
    })
    .await;
    farm.redis.kill();
    farm.redis.restart();
    let over = async || farm.queues.get(&last).await.ok().flatten().filter(|job| job.state.is_final());
    assert_eq!(eventually_async("the last is over", over).await.state, State::Succeeded);
}
