//! The queue's promises, on a real Redis, through its public surface.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod model;

use std::{collections::HashSet, time::Duration};

use fourmi_model::{ErrorReport, Failure, Job, JobId, Priority, QueueName, State, Submission};
use fourmi_queue::{
    Cancelled, JobFilter, Lease, Outcome, Pushed, QueueError, Queues, Refusal, Retried, Run, Settlement, Transitions,
    Update, Watcher,
};
use fourmi_tests::RedisServer;
use serde_json::value::RawValue;

const LEASE: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(50);
const KEEP: Duration = Duration::from_secs(60);

/// A queue on a Redis of its own.
struct Bench {
    redis: RedisServer,
    queues: Queues,
    transitions: Transitions,
}

impl Bench {
    async fn new() -> Self {
        Self::on(RedisServer::start()).await
    }

    async fn on(redis: RedisServer) -> Self {
        let queues = Queues::connect(&redis.url()).await.unwrap();
        let transitions = Transitions::of(&queues, queue()).await.unwrap();
        Self { redis, queues, transitions }
    }

    async fn push(&self, submission: Submission) -> JobId {
        self.queues.push(JobId::new(queue()), submission).await.unwrap().unwrap().id
    }

    async fn push_plain(&self) -> JobId {
        self.push(submission()).await
    }

    async fn fetch(&self, want: usize) -> Vec<(JobId, Run)> {
        self.fetch_for(want, LEASE).await
    }

    async fn fetch_for(&self, want: usize, lease: Duration) -> Vec<(JobId, Run)> {
        let fetched = self.transitions.fetch("w1", want, lease, false).await.unwrap();
        fetched.claims.into_iter().map(|claim| (claim.id.clone(), claim.key())).collect()
    }

    async fn fetch_one(&self) -> (JobId, Run) {
        let mut fetched = self.fetch(1).await;
        assert_eq!(fetched.len(), 1);
        fetched.remove(0)
    }

    async fn settle(&self, run: Run, outcome: Outcome) -> bool {
        self.transitions.settle(&[Settlement { run, outcome }]).await.unwrap()[0]
    }

    async fn job(&self, id: &JobId) -> Job {
        self.queues.get(id).await.unwrap().expect("the job is there")
    }

    async fn state(&self, id: &JobId) -> State {
        self.job(id).await.state
    }

    async fn count(&self, state: State) -> u64 {
        self.queues.counts(&queue()).await.unwrap().0[&state]
    }

    /// Lets the lease of a run be over now, and nobody have been away.
    fn expire(&self, run: Run) {
        let mut redis = self.redis.connection();
        let () = redis::cmd("ZADD").arg("{test}:lease").arg(1).arg(run.job.to_string()).query(&mut redis).unwrap();
    }

    /// Reclaims as a process that has looked all the time.
    async fn reclaim(&self) -> u64 {
        let mut redis = self.redis.connection();
        let () = redis::cmd("HDEL").arg("{test}:m").arg("grace").query(&mut redis).unwrap();
        let (seconds, _): (u64, u64) = redis::cmd("TIME").query(&mut redis).unwrap();
        let now = seconds * 1_000;
        let () = redis::cmd("HSET").arg("{test}:m").arg("reclaimed").arg(now).query(&mut redis).unwrap();
        self.transitions.reclaim(100, LEASE).await.unwrap()
    }
}

fn queue() -> QueueName {
    "test".parse().unwrap()
}

fn submission() -> Submission {
    Submission::new("test.echo".parse().unwrap(), payload("{}"))
}

fn payload(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).unwrap()
}

fn keyed(key: &str, json: &str) -> Submission {
    let mut submission = submission();
    submission.envelope.payload = payload(json);
    submission.idempotency_key = Some(key.to_owned());
    submission
}

fn succeeded() -> Outcome {
    Outcome::Succeeded { result: r#"{"ok":true}"#.into(), keep: KEEP }
}

fn error() -> ErrorReport {
    Failure::retry("busy", "come back later").report()
}

fn retrying(delay: Duration) -> Outcome {
    Outcome::Retrying { error: error(), delay, keep: KEEP }
}

#[tokio::test]
async fn a_job_goes_from_waiting_to_succeeded() {
    let bench = Bench::new().await;
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

#[tokio::test]
async fn an_outcome_is_written_once() {
    let bench = Bench::new().await;
    let id = bench.push_plain().await;
    let (_, run) = bench.fetch_one().await;
    assert!(bench.settle(run, succeeded()).await);
    assert!(!bench.settle(run, Outcome::Failed { error: error(), keep: KEEP }).await);
    assert_eq!(bench.state(&id).await, State::Succeeded);
}

#[tokio::test]
async fn a_run_that_lost_its_lease_cannot_settle_renew_or_report() {
    let bench = Bench::new().await;
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

#[tokio::test]
async fn an_expired_lease_that_nobody_reclaimed_still_counts() {
    let bench = Bench::new().await;
    bench.push_plain().await;
    let (_, run) = bench.fetch_one().await;
    bench.expire(run);
    assert_eq!(bench.transitions.renew(LEASE, &[run]).await.unwrap(), [Lease::Renewed]);
    assert_eq!(bench.reclaim().await, 0);
    bench.expire(run);
    assert!(bench.settle(run, succeeded()).await);
}

#[tokio::test]
async fn after_an_outage_every_lease_gets_one_more_lease_of_time() {
    let bench = Bench::new().await;
    let id = bench.push_plain().await;
    let (_, run) = bench.fetch_one().await;
    bench.expire(run);
    // The first look ever comes after a gap, by definition.
    assert_eq!(bench.transitions.reclaim(100, LEASE).await.unwrap(), 0);
    assert_eq!(bench.transitions.reclaim(100, LEASE).await.unwrap(), 0);
    assert_eq!(bench.state(&id).await, State::Running);
}

#[tokio::test]
async fn a_lost_run_is_not_held_against_the_job_but_an_in_process_job_next_runs_alone() {
    let bench = Bench::new().await;
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

#[tokio::test]
async fn a_job_that_takes_its_worker_down_alone_three_times_has_failed() {
    let bench = Bench::new().await;
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
    assert_eq!(bench.queues.runs(&id).await.unwrap().len(), 4);
}

#[tokio::test]
async fn a_suspect_that_was_given_back_or_delayed_still_runs_alone() {
    let bench = Bench::new().await;
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

#[tokio::test]
async fn a_job_that_is_cancelled_and_replayed_again_and_again_has_one_entry_in_its_lane() {
    let bench = Bench::new().await;
    let id = bench.push_plain().await;
    bench.push_plain().await;
    for _ in 0..20 {
        bench.queues.cancel(&id).await.unwrap();
        bench.queues.retry(&id).await.unwrap();
    }
    let length: u64 = redis::cmd("LLEN").arg("{test}:w:2").query(&mut bench.redis.connection()).unwrap();
    assert_eq!(length, 2);
    assert_eq!(bench.fetch_one().await.0, id);
}

#[tokio::test]
async fn the_error_of_a_job_that_expired_is_no_result_after_its_replay() {
    let bench = Bench::new().await;
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

#[tokio::test]
async fn a_deadline_fails_a_job_that_no_worker_fetches() {
    let bench = Bench::new().await;
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

#[tokio::test]
async fn ten_thousand_runs_are_fetched_renewed_and_settled_in_bounded_steps() {
    let bench = Bench::new().await;
    let jobs: Vec<_> = (0..10_000).map(|_| (JobId::new(queue()), submission())).collect();
    bench.queues.push_many(&queue(), &jobs).await.unwrap();
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

#[tokio::test]
async fn an_isolated_job_of_a_dead_worker_goes_to_the_front_of_its_lane() {
    let bench = Bench::new().await;
    let mut isolated = submission();
    isolated.isolated = true;
    let id = bench.push(isolated).await;
    let (_, run) = bench.fetch_one().await;
    bench.push_plain().await;
    bench.expire(run);
    bench.reclaim().await;
    assert_eq!(bench.fetch_one().await.0, id);
}

#[tokio::test]
async fn the_third_crash_of_a_child_ends_the_job() {
    let bench = Bench::new().await;
    let id = bench.push_plain().await;
    for crashes in 1..=3 {
        let (_, run) = bench.fetch_one().await;
        bench.settle(run, Outcome::Crashed { error: error(), delay: Duration::ZERO, keep: KEEP }).await;
        assert_eq!(bench.job(&id).await.crashes, crashes);
    }
    assert_eq!(bench.state(&id).await, State::Failed);
}

#[tokio::test]
async fn a_retry_waits_to_the_millisecond() {
    let bench = Bench::new().await;
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

#[tokio::test]
async fn given_back_and_parked_runs_are_no_attempts() {
    let bench = Bench::new().await;
    let id = bench.push_plain().await;
    let (_, run) = bench.fetch_one().await;
    assert!(bench.settle(run, Outcome::Released { delay: Duration::ZERO }).await);
    assert_eq!((bench.job(&id).await.attempts, bench.job(&id).await.run), (0, 1));

    let (_, run) = bench.fetch_one().await;
    let parked = Outcome::Parked { error: error(), reason: "offline".into(), keep: KEEP };
    assert!(bench.settle(run, parked).await);
    let job = bench.job(&id).await;
    assert_eq!((job.state, job.attempts, job.parked_reason.as_deref()), (State::Parked, 0, Some("offline")));
    assert!(bench.fetch(1).await.is_empty());

    assert_eq!(bench.queues.unpark(&queue(), "offline").await.unwrap(), 1);
    assert_eq!(bench.fetch_one().await.1.number, 3);
}

#[tokio::test]
async fn a_given_back_job_is_the_next_of_its_lane() {
    let bench = Bench::new().await;
    let first = bench.push_plain().await;
    bench.push_plain().await;
    let (_, run) = bench.fetch_one().await;
    bench.settle(run, Outcome::Released { delay: Duration::ZERO }).await;
    assert_eq!(bench.fetch_one().await.0, first);
}

#[tokio::test]
async fn cancel_before_the_start_is_final_and_leaves_nothing_to_run() {
    let bench = Bench::new().await;
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

#[tokio::test]
async fn cancel_of_a_running_job_asks_its_run_and_wins_over_a_retry() {
    let bench = Bench::new().await;
    let id = bench.push_plain().await;
    let (_, run) = bench.fetch_one().await;
    assert_eq!(bench.queues.cancel(&id).await.unwrap(), Cancelled::Requested);
    assert!(bench.job(&id).await.cancel_requested);
    assert_eq!(bench.transitions.renew(LEASE, &[run]).await.unwrap(), [Lease::StopRequested]);
    assert!(bench.settle(run, retrying(SHORT)).await);
    assert_eq!(bench.state(&id).await, State::Cancelled);
    assert!(!bench.job(&id).await.cancel_requested);
}

#[tokio::test]
async fn a_failed_or_cancelled_job_is_replayed_with_a_fresh_budget() {
    let bench = Bench::new().await;
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
    assert_eq!(bench.queues.retry(&JobId::new(queue())).await.unwrap(), Retried::Unknown);
}

#[tokio::test]
async fn retry_lets_a_delayed_job_run_now() {
    let bench = Bench::new().await;
    let mut later = submission();
    later.not_before = Some(jiff::Timestamp::now() + Duration::from_secs(3_600));
    let id = bench.push(later).await;
    assert_eq!(bench.state(&id).await, State::Scheduled);
    assert!(bench.fetch(1).await.is_empty());
    assert_eq!(bench.queues.retry(&id).await.unwrap(), Retried::Waiting);
    assert_eq!(bench.fetch_one().await.0, id);
}

#[tokio::test]
async fn the_same_key_and_payload_give_the_same_job() {
    let bench = Bench::new().await;
    let first = bench.push(keyed("k", r#"{"a":1}"#)).await;
    let again = bench.queues.push(JobId::new(queue()), keyed("k", r#"{"a":1}"#)).await.unwrap().unwrap();
    assert_eq!(again, Pushed { id: first.clone(), existing: true });
    let other = bench.queues.push(JobId::new(queue()), keyed("k", r#"{"a":2}"#)).await.unwrap();
    assert_eq!(other, Err(Refusal::IdempotencyConflict(first)));
    assert_eq!(bench.fetch(10).await.len(), 1);
}

#[tokio::test]
async fn a_key_is_free_again_when_its_job_is_forgotten() {
    let bench = Bench::new().await;
    let first = bench.push(keyed("k", "{}")).await;
    let (_, run) = bench.fetch_one().await;
    bench.settle(run, Outcome::Succeeded { result: String::new(), keep: Duration::ZERO }).await;
    tokio::time::sleep(Duration::from_millis(2)).await;
    bench.transitions.trim(100, (100, 100)).await.unwrap();
    assert_eq!(bench.queues.get(&first).await.unwrap(), None);
    let second = bench.queues.push(JobId::new(queue()), keyed("k", "{}")).await.unwrap().unwrap();
    assert!(!second.existing && second.id != first);
}

#[tokio::test]
async fn pushing_the_same_id_twice_is_safe() {
    let bench = Bench::new().await;
    let id = JobId::new(queue());
    let first = bench.queues.push(id.clone(), submission()).await.unwrap().unwrap();
    let second = bench.queues.push(id, submission()).await.unwrap().unwrap();
    assert_eq!((first.existing, second.existing), (false, true));
    assert_eq!(bench.fetch(10).await.len(), 1);
}

#[tokio::test]
async fn concurrent_pushes_are_all_accepted_once() {
    let bench = Bench::new().await;
    let pushes = (0..2_000).map(|_| bench.push_plain());
    let ids: HashSet<JobId> = futures_util::future::join_all(pushes).await.into_iter().collect();
    let mut fetched = HashSet::new();
    while let claims = bench.fetch(200).await
        && !claims.is_empty()
    {
        for (id, _) in claims {
            assert!(fetched.insert(id), "fetched twice");
        }
    }
    assert_eq!(fetched, ids);
}

#[tokio::test]
async fn ten_thousand_jobs_in_one_call_get_an_answer_each() {
    let bench = Bench::new().await;
    let jobs: Vec<_> = (0..10_000).map(|_| (JobId::new(queue()), submission())).collect();
    let answers = bench.queues.push_many(&queue(), &jobs).await.unwrap();
    assert!(jobs.iter().zip(&answers).all(|((id, _), answer)| answer.as_ref().unwrap().id == *id));
    assert_eq!(bench.count(State::Waiting).await, 10_000);
}

#[tokio::test]
async fn jobs_of_one_priority_are_first_in_first_out() {
    let bench = Bench::new().await;
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

#[tokio::test]
async fn a_higher_priority_goes_first_and_a_lower_one_is_never_starved() {
    let bench = Bench::new().await;
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

#[tokio::test]
async fn a_job_whose_deadline_has_passed_does_not_start() {
    let bench = Bench::new().await;
    let mut late = submission();
    late.envelope.deadline = Some(jiff::Timestamp::now() - Duration::from_secs(1));
    let id = bench.push(late).await;
    assert!(bench.fetch(1).await.is_empty());
    let job = bench.job(&id).await;
    assert_eq!((job.state, job.error.unwrap().code.as_str()), (State::Failed, "expired"));
}

#[tokio::test]
async fn finished_jobs_are_forgotten_by_age_and_number_and_leave_no_key() {
    let bench = Bench::new().await;
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
    let mut redis = bench.redis.connection();
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut redis).unwrap();
    let (keys, claims): (Vec<_>, Vec<_>) = keys.into_iter().partition(|key| !key.starts_with("{test}:i:"));
    assert_eq!(keys, ["{test}:m"]);
    // What remains of a key ends by itself.
    for claim in claims {
        let life: i64 = redis::cmd("PTTL").arg(claim).query(&mut redis).unwrap();
        assert!(life > 0);
    }
}

#[tokio::test]
async fn a_list_walks_through_all_jobs_page_by_page() {
    let bench = Bench::new().await;
    let mut ids = HashSet::new();
    for n in 0..450 {
        let mut submission = submission();
        submission.envelope.tags = vec![if n % 3 == 0 { "fizz".into() } else { "plain".into() }];
        ids.insert(bench.push(submission).await);
    }
    for (_, run) in bench.fetch(100).await {
        bench.settle(run, succeeded()).await;
    }
    bench.fetch(5).await;
    let page = async |filter: JobFilter, limit| {
        let (mut jobs, mut cursor) = (Vec::new(), None);
        loop {
            let page = bench.queues.list(&queue(), &filter, cursor.as_deref(), limit).await.unwrap();
            assert!(page.jobs.len() <= limit);
            jobs.extend(page.jobs);
            cursor = page.next;
            if cursor.is_none() {
                return jobs;
            }
        }
    };
    let all = page(JobFilter::default(), 37).await;
    assert_eq!(all.iter().map(|job| job.id.clone()).collect::<HashSet<_>>(), ids);
    assert_eq!(all.len(), 450);
    let running = page(JobFilter { states: vec![State::Running], ..JobFilter::default() }, 2).await;
    assert_eq!(running.len(), 5);
    let fizz = page(JobFilter { tag: Some("fizz".into()), ..JobFilter::default() }, 50).await;
    assert_eq!(fizz.len(), 150);
    let bad = bench.queues.list(&queue(), &JobFilter::default(), Some("drop table"), 5).await;
    assert!(matches!(bad, Err(QueueError::Corrupt(_))));
}

#[tokio::test]
async fn a_full_redis_refuses_new_jobs_and_can_still_be_drained() {
    let redis = RedisServer::with(&["--maxmemory", "4mb", "--maxmemory-policy", "noeviction"]);
    let bench = Bench::on(redis).await;
    let mut big = submission();
    big.envelope.payload = payload(&format!("\"{}\"", "x".repeat(40_000)));
    let mut accepted = 0;
    let refused = loop {
        match bench.queues.push(JobId::new(queue()), big.clone()).await {
            Ok(answer) => accepted += usize::from(!answer.unwrap().existing),
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
    bench.push(big).await;
}

#[tokio::test]
async fn a_redis_that_would_throw_jobs_away_is_refused() {
    let redis = RedisServer::with(&["--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru"]);
    let error = Queues::connect(&redis.url()).await.err().expect("refused");
    assert!(matches!(&error, QueueError::Unsuitable(text) if text.contains("noeviction")), "{error}");
}

#[tokio::test]
async fn keys_of_another_layout_are_not_touched() {
    let bench = Bench::new().await;
    let () = redis::cmd("HSET").arg("{test}:m").arg("layout").arg(99).query(&mut bench.redis.connection()).unwrap();
    let queues = Queues::connect(&bench.redis.url()).await.unwrap();
    let error = queues.push(JobId::new(queue()), submission()).await.unwrap_err();
    assert!(matches!(&error, QueueError::Unsuitable(text) if text.contains("99")), "{error}");
}

#[tokio::test]
async fn with_redis_gone_a_push_fails_soon_and_succeeds_afterwards() {
    let mut bench = Bench::new().await;
    bench.push_plain().await;
    bench.redis.kill();
    let started = std::time::Instant::now();
    let error = bench.queues.push(JobId::new(queue()), submission()).await.unwrap_err();
    assert!(matches!(error, QueueError::Unavailable(_)), "{error}");
    assert!(started.elapsed() < Duration::from_secs(8));
    bench.redis.restart();
    while bench.queues.push(JobId::new(queue()), submission()).await.is_err() {}
    assert!(bench.count(State::Waiting).await >= 2);
}

#[tokio::test]
async fn every_accepted_job_survives_the_kill_of_redis() {
    let mut bench = Bench::new().await;
    let queues = bench.queues.clone();
    let (sender, mut accepted) = tokio::sync::mpsc::unbounded_channel();
    let pushing = tokio::spawn(async move {
        while let Ok(answer) = queues.push(JobId::new(queue()), submission()).await {
            sender.send(answer.unwrap().id).unwrap();
        }
    });
    let mut ids = Vec::new();
    while ids.len() < 200 {
        ids.push(accepted.recv().await.unwrap());
    }
    bench.redis.kill();
    pushing.await.unwrap();
    while let Some(id) = accepted.recv().await {
        ids.push(id);
    }
    bench.redis.restart();
    while bench.queues.counts(&queue()).await.is_err() {}
    for id in &ids {
        assert_eq!(bench.state(id).await, State::Waiting);
    }
    // The last push may be there without its answer.
    assert!(bench.count(State::Waiting).await <= ids.len() as u64 + 1);
}

#[tokio::test]
async fn a_queue_at_its_limit_refuses_more_until_a_job_has_started() {
    let bench = Bench::new().await;
    let () = redis::cmd("HSET").arg("{test}:m").arg("limit").arg(2).query(&mut bench.redis.connection()).unwrap();
    let jobs: Vec<_> = (0..3).map(|_| (JobId::new(queue()), submission())).collect();
    let answers = bench.queues.push_many(&queue(), &jobs).await.unwrap();
    assert!(answers[0].is_ok() && answers[1].is_ok());
    assert!(matches!(answers[2], Err(Refusal::QueueFull { retry_after }) if !retry_after.is_zero()));
    // What was accepted before is answered as before.
    assert!(bench.queues.push(jobs[0].0.clone(), submission()).await.unwrap().unwrap().existing);
    bench.fetch_one().await;
    bench.push_plain().await;
}

#[tokio::test]
async fn a_job_starts_at_its_millisecond_and_not_before() {
    let bench = Bench::new().await;
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

#[tokio::test]
async fn a_transition_does_the_same_work_whatever_the_backlog() {
    let bench = Bench::new().await;
    let mut work = Vec::new();
    for backlog in [10, 10_000] {
        let jobs: Vec<_> = (0..backlog).map(|_| (JobId::new(queue()), submission())).collect();
        bench.queues.push_many(&queue(), &jobs).await.unwrap();
        let mut redis = bench.redis.connection();
        let () = redis::cmd("CONFIG").arg("RESETSTAT").query(&mut redis).unwrap();
        let cancelled = bench.push_plain().await;
        bench.queues.cancel(&cancelled).await.unwrap();
        for outcome in [succeeded(), retrying(KEEP), Outcome::Released { delay: Duration::ZERO }] {
            let (_, run) = bench.fetch_one().await;
            bench.transitions.renew(LEASE, &[run]).await.unwrap();
            bench.settle(run, outcome).await;
        }
        bench.reclaim().await;
        bench.transitions.trim(100, (100, 100)).await.unwrap();
        let stats: String = redis::cmd("INFO").arg("commandstats").query(&mut redis).unwrap();
        let calls = stats.lines().filter_map(|line| {
            let (name, numbers) = line.strip_prefix("cmdstat_")?.split_once(':')?;
            Some((name.to_owned(), numbers.strip_prefix("calls=")?.split(',').next()?.to_owned()))
        });
        // What scripts are sent as depends on what Redis has seen before.
        let of_scripts = |name: &str| !["evalsha", "eval", "script|load", "config|resetstat", "info"].contains(&name);
        let calls: std::collections::BTreeMap<_, _> = calls.filter(|(name, _)| of_scripts(name)).collect();
        let walks = ["lrem", "lpos", "lindex", "linsert", "keys", "scan", "smembers", "hscan", "zscan", "sort"];
        assert!(walks.iter().all(|name| !calls.contains_key(*name)), "{calls:?}");
        work.push(calls);
    }
    assert_eq!(work[0], work[1]);
}

#[test]
fn every_test_that_guards_an_invariant_is_there() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let table = std::fs::read_to_string(format!("{root}/docs/queue.md")).unwrap();
    let files = ["queue/main.rs", "queue/model/mod.rs", "worker.rs", "platform.rs"];
    let tests: String =
        files.iter().map(|file| std::fs::read_to_string(format!("{root}/tests/tests/{file}")).unwrap()).collect();
    let rows = table.lines().filter(|line| line.starts_with('|') && line.contains('`')).collect::<Vec<_>>();
    assert_eq!(rows.len(), 11);
    for (n, row) in rows.into_iter().enumerate() {
        assert!(row.starts_with(&format!("| {} |", n + 1)), "{row}");
        let guards: Vec<&str> = row.rsplit('|').nth(1).unwrap().split('`').skip(1).step_by(2).collect();
        assert!(!guards.is_empty(), "nothing guards {row}");
        for guard in guards {
            assert!(tests.contains(&format!("fn {guard}()")), "there is no test {guard}");
        }
    }
}

#[tokio::test]
async fn a_redis_that_went_silent_is_left_for_a_new_connection() {
    let bench = Bench::new().await;
    bench.redis.freeze();
    let started = std::time::Instant::now();
    assert!(bench.queues.get(&JobId::new(queue())).await.is_err());
    assert!(started.elapsed() < Duration::from_secs(8));
    bench.redis.thaw();
    while bench.queues.get(&JobId::new(queue())).await.is_err() {}
}

#[tokio::test]
async fn a_watcher_gets_a_snapshot_then_what_follows_and_always_the_end() {
    let mut bench = Bench::new().await;
    let watcher = Watcher::start(bench.queues.clone(), vec![queue()]);
    let id = bench.push_plain().await;
    let (job, mut watch) = watcher.watch(&id).await.unwrap().unwrap();
    assert_eq!(job.state, State::Waiting);

    let (_, run) = bench.fetch_one().await;
    assert!(matches!(watch.next().await, Some(Update::State(job)) if job.state == State::Running));
    bench.transitions.progress(&[(run, r#"{"stage":"encode","percent":41}"#.to_owned())]).await.unwrap();
    let Some(Update::Progress { progress, run: 1, .. }) = watch.next().await else { panic!("no progress") };
    assert_eq!((progress.stage.as_str(), progress.percent), ("encode", 41.0));

    // A late subscriber gets the newest progress with the snapshot.
    let (late, mut late_watch) = watcher.watch(&id).await.unwrap().unwrap();
    assert_eq!(late.progress.unwrap().percent, 41.0);

    // The end is seen even if its event is lost with the connection.
    bench.redis.kill();
    bench.redis.restart();
    while bench.transitions.settle(&[Settlement { run, outcome: succeeded() }]).await.is_err() {}
    for watch in [&mut watch, &mut late_watch] {
        let Some(Update::State(job)) = watch.next().await else { panic!("no end") };
        assert_eq!(job.state, State::Succeeded);
        assert!(watch.next().await.is_none());
    }
    assert!(watcher.watch(&JobId::new(queue())).await.unwrap().is_none());
}

#[tokio::test]
async fn a_slow_watcher_gets_the_newest_progress_and_the_end() {
    let bench = Bench::new().await;
    let watcher = Watcher::start(bench.queues.clone(), vec![queue()]);
    let id = bench.push_plain().await;
    let (_, mut watch) = watcher.watch(&id).await.unwrap().unwrap();
    let (_, run) = bench.fetch_one().await;
    for percent in 0..500 {
        let news = [(run, format!(r#"{{"stage":"x","percent":{}}}"#, f64::from(percent) / 5.0))];
        bench.transitions.progress(&news).await.unwrap();
    }
    bench.settle(run, succeeded()).await;
    let mut versions = vec![];
    while let Some(update) = watch.next().await {
        versions.push(match update {
            Update::State(job) => job.version,
            Update::Progress { version, .. } => version,
        });
    }
    assert!(versions.is_sorted() && versions.len() < 100, "{versions:?}");
    assert_eq!(*versions.last().unwrap(), bench.job(&id).await.version);
}
