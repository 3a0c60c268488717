//! Jobs that wait for other jobs: chains, fan-outs and fan-ins over queues, what failures do to them, and that no crash
//! leaves one behind.

use std::{sync::Arc, time::Duration};

use fourmi_model::{JobId, ParentFailure, ParentOutcome, ParkReason, State, Submission};
use fourmi_queue::{Cancelled, JobFilter, Outcome, Relay, Retried};
use fourmi_tests::Topology;
use serde_json::json;

use crate::bench::{Bench, KEEP, LEASE, error, submission, succeeded};

/// Two queues of one Redis, each with its relay.
pub(super) struct Flows {
    pub(super) one: Bench,
    pub(super) two: Bench,
    relays: [Relay; 2],
}

impl Flows {
    pub(super) async fn new() -> Self {
        let redis = Arc::new(Topology::one_server());
        let (one, two) = (Bench::on(redis.clone(), "one").await, Bench::on(redis, "two").await);
        let relays = [
            Relay::of(&one.queues, one.name.clone()).await.unwrap(),
            Relay::of(&two.queues, two.name.clone()).await.unwrap(),
        ];
        Self { one, two, relays }
    }

    /// Tells everybody everything.
    pub(super) async fn relay(&self) {
        let mut told = 1;
        while told > 0 {
            told = 0;
            for relay in &self.relays {
                told += relay.step().await.unwrap();
            }
        }
    }

    pub(super) async fn sweep(&self) {
        for relay in &self.relays {
            relay.sweep().await.unwrap();
        }
    }

    /// Runs the next job of a queue to this end, and gives its id.
    pub(super) async fn end(&self, bench: &Bench, outcome: Outcome) -> JobId {
        let (id, run) = bench.fetch_one().await;
        assert!(bench.settle(run, outcome).await);
        id
    }

    /// Lets the sweep and the relay find what they would find later.
    pub(super) fn later(&self, bench: &Bench) {
        for index in ["blocked", "relay"] {
            let mut entries = redis::cmd("ZRANGE");
            let ids: Vec<String> = bench.redis.ask(entries.arg(bench.key(index)).arg(0).arg(-1));
            for id in ids {
                let () = bench.redis.ask(redis::cmd("ZADD").arg(bench.key(index)).arg(1).arg(id));
            }
        }
    }

    /// Whether nothing of flows is left in Redis.
    fn is_clean(&self) {
        for bench in [&self.one, &self.two] {
            let mut command = redis::cmd("EVAL");
            command.arg("return redis.call('KEYS', ARGV[1])").arg(1).arg(bench.key("m")).arg(bench.key("*"));
            let keys: Vec<String> = bench.redis.ask(&command);
            let left: Vec<_> = keys.into_iter().filter(|key| !key.ends_with(":m") && !key.contains(":i:")).collect();
            assert!(left.is_empty(), "{left:?}");
        }
    }
}

pub(super) fn after(parents: &[&JobId]) -> Submission {
    let mut submission = submission();
    submission.envelope.after = parents.iter().map(|id| (*id).clone()).collect();
    submission
}

fn with(policy: ParentFailure, parents: &[&JobId]) -> Submission {
    let mut submission = after(parents);
    submission.envelope.on_parent_failure = policy;
    submission
}

pub(super) fn failed() -> Outcome {
    Outcome::Failed { error: error(), keep: KEEP }
}

fn gave(result: &str) -> Outcome {
    Outcome::Succeeded { result: result.into(), keep: KEEP }
}

#[tokio::test]
async fn a_chain_over_two_queues_runs_in_order() {
    let flows = Flows::new().await;
    let first = flows.one.push_plain().await;
    let second = flows.two.push(after(&[&first])).await;
    let third = flows.one.push(after(&[&second])).await;
    for (bench, id) in [(&flows.two, &second), (&flows.one, &third)] {
        let job = bench.job(id).await;
        assert_eq!((job.state, job.after.len()), (State::Blocked, 1));
        assert_eq!(bench.queues.retry(id).await.unwrap(), Retried::NotPossible(State::Blocked));
        assert_eq!(bench.count(State::Blocked).await, 1);
        let filter = JobFilter { states: vec![State::Blocked], ..JobFilter::default() };
        let page = bench.queues.list(&bench.name, &filter, None, 10).await.unwrap();
        assert_eq!(page.jobs.iter().map(|job| &job.id).collect::<Vec<_>>(), [id]);
    }

    assert_eq!(flows.end(&flows.one, succeeded()).await, first);
    assert!(flows.two.fetch(10).await.is_empty(), "it waits for the relay");
    flows.relay().await;
    assert_eq!(flows.end(&flows.two, succeeded()).await, second);
    flows.relay().await;
    assert_eq!(flows.end(&flows.one, succeeded()).await, third);
    flows.relay().await;
    assert_eq!(flows.two.count(State::Blocked).await + flows.one.count(State::Blocked).await, 0);

    for bench in [&flows.one, &flows.two] {
        bench.transitions.trim(100, (0, 0)).await.unwrap();
    }
    flows.is_clean();
}

#[tokio::test]
async fn a_job_that_waits_for_others_waits_for_nothing_else_when_they_are_over() {
    let flows = Flows::new().await;
    let first = flows.one.push_plain().await;
    let mut parked = after(&[&first]);
    parked.parked = Some(ParkReason::NotConfigured);
    let second = flows.two.push(parked).await;
    assert_eq!((flows.two.state(&second).await, flows.two.count(State::Parked).await), (State::Blocked, 0));
    flows.end(&flows.one, succeeded()).await;
    flows.relay().await;
    assert_eq!(flows.end(&flows.two, succeeded()).await, second);
}

#[tokio::test]
async fn a_job_runs_after_all_that_it_waits_for_and_has_their_results_at_hand() {
    let flows = Flows::new().await;
    let source = flows.one.push_plain().await;
    let parts = [flows.one.push(after(&[&source])).await, flows.two.push(after(&[&source])).await];
    let join = flows.two.push(after(&[&parts[0], &parts[1]])).await;
    flows.end(&flows.one, gave("7")).await;
    flows.relay().await;
    flows.end(&flows.one, gave(r#"{"part":1}"#)).await;
    flows.relay().await;
    assert_eq!(flows.two.state(&join).await, State::Blocked, "one of two is over");
    flows.end(&flows.two, gave(r#"{"part":2}"#)).await;
    flows.relay().await;
    assert_eq!(flows.two.state(&join).await, State::Waiting);

    let job = flows.two.job(&join).await;
    let parents = flows.two.queues.parents(&join, &job.after).await.unwrap();
    let results: Vec<_> = parents.iter().map(|parent| (&parent.id, parent.outcome.result.clone().unwrap())).collect();
    assert_eq!(results, [(&parts[0], json!({"part": 1})), (&parts[1], json!({"part": 2}))]);

    let flow = flows.one.queues.flow(std::slice::from_ref(&join)).await.unwrap();
    assert_eq!((flow.jobs.len(), flow.edges.len(), flow.cut), (4, 4, false));
    let from_source = flows.one.queues.flow(std::slice::from_ref(&source)).await.unwrap();
    assert_eq!(from_source.edges, flow.edges, "the same flow from wherever one looks");
}

#[tokio::test]
async fn a_result_that_is_too_large_to_be_handed_on_is_read_from_its_job() {
    let flows = Flows::new().await;
    let parent = flows.one.push_plain().await;
    let kid = flows.two.push(after(&[&parent])).await;
    let large = json!("x".repeat(70_000));
    flows.end(&flows.one, gave(&large.to_string())).await;
    flows.relay().await;
    let parents = flows.two.queues.parents(&kid, std::slice::from_ref(&parent)).await.unwrap();
    assert_eq!(parents[0].outcome.result, Some(large));
    flows.one.transitions.trim(100, (0, 0)).await.unwrap();
    let parents = flows.two.queues.parents(&kid, std::slice::from_ref(&parent)).await.unwrap();
    let outcome = ParentOutcome { state: State::Succeeded, result: None, error: None, left_out: true };
    assert_eq!(parents[0].outcome, outcome);
}

#[tokio::test]
async fn a_failure_cancels_runs_or_holds_those_that_wait_as_they_said() {
    let flows = Flows::new().await;
    let parent = flows.one.push_plain().await;
    let cancel = flows.two.push(after(&[&parent])).await;
    let grandchild = flows.one.push(after(&[&cancel])).await;
    let run = flows.two.push(with(ParentFailure::Run, &[&parent])).await;
    let wait = flows.two.push(with(ParentFailure::Wait, &[&parent])).await;
    flows.end(&flows.one, failed()).await;
    flows.relay().await;

    for (bench, id, cause) in [(&flows.two, &cancel, &parent), (&flows.one, &grandchild, &cancel)] {
        let job = bench.job(id).await;
        let error = job.error.unwrap();
        assert_eq!((job.state, error.code.as_str()), (State::Cancelled, "parent_failed"));
        assert!(error.message.contains(&cause.to_string()), "{}", error.message);
    }
    assert_eq!(flows.two.state(&run).await, State::Waiting);
    let parents = flows.two.queues.parents(&run, std::slice::from_ref(&parent)).await.unwrap();
    let outcome = &parents[0].outcome;
    assert_eq!((outcome.state, outcome.error.as_ref().unwrap().code.as_str()), (State::Failed, "busy"));
    assert_eq!(flows.two.state(&wait).await, State::Blocked);

    // A second failure changes nothing, a success does.
    for outcome in [failed(), succeeded()] {
        assert_eq!(flows.two.state(&wait).await, State::Blocked);
        assert_eq!(flows.one.queues.retry(&parent).await.unwrap(), Retried::Waiting);
        flows.end(&flows.one, outcome).await;
        flows.relay().await;
    }
    assert_eq!(flows.two.state(&wait).await, State::Waiting);
    assert_eq!(flows.two.state(&cancel).await, State::Cancelled);
}

#[tokio::test]
async fn the_cancel_of_a_job_reaches_those_that_wait_for_it() {
    let flows = Flows::new().await;
    let parent = flows.one.push_plain().await;
    let kid = flows.two.push(after(&[&parent])).await;
    let other = flows.two.push(after(&[&parent])).await;
    assert_eq!(flows.two.queues.cancel(&other).await.unwrap(), Cancelled::Now);
    assert_eq!(flows.one.queues.cancel(&parent).await.unwrap(), Cancelled::Now);
    flows.relay().await;
    let error = flows.two.job(&kid).await.error.unwrap();
    assert_eq!((flows.two.state(&kid).await, error.code.as_str()), (State::Cancelled, "parent_failed"));
    assert!(flows.two.job(&other).await.error.is_none(), "that one was cancelled for its own sake");
    // What somebody lets run all the same runs, without waiting once more.
    assert_eq!(flows.two.queues.retry(&kid).await.unwrap(), Retried::Waiting);
    assert_eq!(flows.end(&flows.two, succeeded()).await, kid);
}

#[tokio::test]
async fn a_job_waits_for_its_time_too_and_not_beyond_its_deadline() {
    let flows = Flows::new().await;
    let parent = flows.one.push_plain().await;
    let mut timed = after(&[&parent]);
    timed.delay(Duration::from_secs(3_600));
    let timed = flows.two.push(timed).await;
    let mut late = after(&[&parent]);
    late.envelope.deadline = Some(jiff::Timestamp::now());
    let late = flows.two.push(late).await;
    assert!(flows.two.job(&timed).await.due_at.is_some());

    assert_eq!(flows.two.transitions.expire(10).await.unwrap(), 1);
    assert_eq!(flows.two.job(&late).await.error.unwrap().code, "expired");
    flows.end(&flows.one, succeeded()).await;
    flows.relay().await;
    assert_eq!(flows.two.state(&timed).await, State::Scheduled);
    assert_eq!((flows.two.state(&late).await, flows.two.count(State::Blocked).await), (State::Failed, 0));
    assert_eq!(flows.two.queues.retry(&timed).await.unwrap(), Retried::Waiting);
}

#[tokio::test]
async fn what_is_over_already_is_not_waited_for() {
    let flows = Flows::new().await;
    let (good, bad) = (flows.one.push_plain().await, flows.one.push_plain().await);
    flows.end(&flows.one, gave("1")).await;
    flows.end(&flows.one, failed()).await;
    let runs = flows.two.push(after(&[&good])).await;
    let cancelled = flows.two.push(after(&[&good, &bad])).await;
    let waits = flows.two.push(with(ParentFailure::Wait, &[&good, &bad])).await;
    let unknown = flows.two.push(after(&[&flows.one.new_id()])).await;
    // Without a relay, by the push itself.
    assert_eq!(flows.two.state(&runs).await, State::Waiting);
    assert_eq!(flows.two.state(&cancelled).await, State::Cancelled);
    assert_eq!(flows.two.state(&waits).await, State::Blocked);
    assert_eq!(flows.two.job(&unknown).await.error.unwrap().code, "parent_gone");

    flows.one.queues.retry(&bad).await.unwrap();
    flows.end(&flows.one, succeeded()).await;
    flows.relay().await;
    assert_eq!(flows.two.state(&waits).await, State::Waiting);

    // The caller knows what became of a job that the queue has forgotten.
    let mut informed = after(&[&good, &bad]);
    let outcome = ParentOutcome { state: State::Succeeded, result: Some(json!(1)), error: None, left_out: false };
    informed.known_parents = vec![(good.clone(), outcome.clone()), (bad.clone(), outcome.clone())];
    let informed = flows.two.push(informed).await;
    assert_eq!(flows.two.state(&informed).await, State::Waiting);
    let parents = flows.two.queues.parents(&informed, &[good, bad]).await.unwrap();
    assert!(parents.iter().all(|parent| parent.outcome == outcome));
}

#[tokio::test]
async fn the_sweep_ties_what_a_crash_has_left_untied() {
    let flows = Flows::new().await;
    let parents: Vec<_> = [flows.one.push_plain().await, flows.one.push_plain().await].into();
    let kid = flows.two.push(after(&[&parents[0], &parents[1]])).await;
    // As if the process had died between the push and the ties; one of the two ends meanwhile.
    for parent in &parents {
        let () = flows.one.redis.ask(redis::cmd("DEL").arg(flows.one.key(&format!("kids:{}", parent.uuid()))));
    }
    flows.end(&flows.one, succeeded()).await;
    flows.relay().await;
    let relay = Relay::of(&flows.two.queues, flows.two.name.clone()).await.unwrap();
    assert_eq!(relay.sweep().await.unwrap(), 0, "it looks after ten seconds");
    flows.later(&flows.two);
    assert_eq!(relay.sweep().await.unwrap(), 1);
    assert_eq!(flows.two.state(&kid).await, State::Blocked);
    flows.end(&flows.one, succeeded()).await;
    flows.relay().await;
    assert_eq!(flows.two.state(&kid).await, State::Waiting);
}

#[tokio::test]
async fn a_relay_that_dies_between_taking_and_telling_loses_nothing() {
    let flows = Flows::new().await;
    let parent = flows.one.push_plain().await;
    let kid = flows.two.push(after(&[&parent])).await;
    flows.end(&flows.one, succeeded()).await;
    let [dying, other] = [&flows.relays[0], &flows.relays[0].clone()];
    let taken = dying.claim().await.unwrap();
    assert_eq!(taken.len(), 1);
    drop(taken);
    assert_eq!(other.step().await.unwrap(), 0, "it is somebody's for five seconds");
    flows.later(&flows.one);
    // Two at once, and one of them late: it is told twice, and happens once.
    let (first, second) = (other.claim().await.unwrap(), {
        flows.later(&flows.one);
        other.claim().await.unwrap()
    });
    assert_eq!((first.len(), second.len()), (1, 1));
    other.tell(first).await.unwrap();
    let (_, run) = flows.two.fetch_one().await;
    other.tell(second).await.unwrap();
    assert!(flows.two.settle(run, succeeded()).await);
    assert_eq!(flows.two.state(&kid).await, State::Succeeded);
    assert!(flows.two.fetch(10).await.is_empty());
    flows.later(&flows.one);
    assert_eq!(other.step().await.unwrap(), 0);
}

#[tokio::test]
async fn a_parent_that_is_replayed_before_others_have_heard_is_waited_for_again() {
    let flows = Flows::new().await;
    let parent = flows.one.push_plain().await;
    let kid = flows.two.push(after(&[&parent])).await;
    flows.end(&flows.one, failed()).await;
    flows.one.queues.retry(&parent).await.unwrap();
    flows.relay().await;
    assert_eq!(flows.two.state(&kid).await, State::Blocked);
    flows.end(&flows.one, succeeded()).await;
    flows.relay().await;
    assert_eq!(flows.two.state(&kid).await, State::Waiting);
}

#[tokio::test]
async fn a_forgotten_parent_counts_as_what_is_known_of_it() {
    let flows = Flows::new().await;
    let (good, bad) = (flows.one.push_plain().await, flows.one.push_plain().await);
    let runs = flows.two.push(after(&[&good])).await;
    let waits = flows.two.push(with(ParentFailure::Wait, &[&bad])).await;
    flows.end(&flows.one, gave("1")).await;
    flows.end(&flows.one, failed()).await;
    // Forgotten before anybody was told.
    flows.one.transitions.trim(100, (0, 0)).await.unwrap();
    assert!(flows.one.queues.get(&good).await.unwrap().is_none());
    flows.relay().await;
    assert_eq!(flows.two.state(&runs).await, State::Waiting);
    let error = flows.two.job(&waits).await.error.unwrap();
    assert_eq!((flows.two.state(&waits).await, error.code.as_str()), (State::Cancelled, "parent_gone"));

    // One that went on waiting hears that there will be no replay.
    let bad = flows.one.push_plain().await;
    let waits = flows.two.push(with(ParentFailure::Wait, &[&bad])).await;
    flows.end(&flows.one, failed()).await;
    flows.relay().await;
    assert_eq!(flows.two.state(&waits).await, State::Blocked);
    flows.one.transitions.trim(100, (0, 0)).await.unwrap();
    flows.relay().await;
    assert_eq!(flows.two.job(&waits).await.error.unwrap().code, "parent_gone");

    flows.end(&flows.two, succeeded()).await;
    flows.two.transitions.trim(100, (0, 0)).await.unwrap();
    flows.is_clean();
}

#[tokio::test]
async fn thousands_that_wait_for_one_job_are_told_in_bounded_steps() {
    const KIDS: usize = 5_000;
    let flows = Flows::new().await;
    let parent = flows.one.push_plain().await;
    let kids: Vec<_> = (0..KIDS).map(|_| (flows.two.new_id(), after(&[&parent]))).collect();
    let answers = flows.two.queues.push_many(&flows.two.name, &kids).await.unwrap();
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(flows.two.count(State::Blocked).await, KIDS as u64);
    flows.end(&flows.one, succeeded()).await;
    let mut steps = Vec::new();
    while let told = flows.relays[0].step().await.unwrap()
        && told > 0
    {
        steps.push(told);
    }
    assert_eq!((steps.iter().sum::<usize>(), steps.iter().max()), (KIDS, Some(&1_000)));
    assert_eq!(flows.two.count(State::Waiting).await, KIDS as u64);
    let mut fetched = 0;
    while let claims = flows.two.transitions.fetch("w1", 1_000, LEASE, false).await.unwrap().claims
        && !claims.is_empty()
    {
        fetched += claims.len();
    }
    assert_eq!(fetched, KIDS, "each once");
}
