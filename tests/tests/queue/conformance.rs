//! The queue's promises, through its public surface. They hold on every kind of Redis.

use std::{collections::HashSet, sync::Arc, time::Duration};

use fourmi_model::{
    ErrorReport, Failure, History, Job, JobId, JobRecord, LogEntry, LogLevel, LogPage, ParkReason, Priority, QueueName,
    Retention, State, Submission,
};
use fourmi_queue::{
    Batch, Cancelled, DeadAction, JobFilter, Lease, Outbox, OutboxConfig, Outcome, Pushed, QueueError, Queues, Refusal,
    Retried, Run, Settlement, Transitions, Update, Watcher,
};
use fourmi_tests::Topology;
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream};
use serde_json::value::RawValue;

pub(crate) const LEASE: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(50);
pub(crate) const KEEP: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// A queue of its own on a Redis that may have others.
pub(crate) struct Bench {
    pub(crate) redis: Arc<Topology>,
    pub(crate) name: QueueName,
    pub(crate) queues: Queues,
    pub(crate) transitions: Transitions,
}

impl Bench {
    /// On a Redis of its own.
    pub(crate) async fn new() -> Self {
        Self::on(Arc::new(Topology::one_server()), "test").await
    }

    pub(crate) async fn on(redis: Arc<Topology>, name: &str) -> Self {
        let name: QueueName = name.parse().unwrap();
        let queues = redis.connect().await.unwrap();
        let transitions = Transitions::of(&queues, name.clone()).await.unwrap();
        Self { redis, name, queues, transitions }
    }

    pub(crate) fn new_id(&self) -> JobId {
        JobId::new(self.name.clone())
    }

    pub(crate) fn key(&self, name: &str) -> String {
        format!("{{{}}}:{name}", self.name)
    }

    /// All keys of the queue.
    pub(crate) fn keys(&self) -> Vec<String> {
        let mut command = redis::cmd("EVAL");
        command.arg("return redis.call('KEYS', ARGV[1])").arg(1).arg(self.key("m")).arg(self.key("*"));
        self.redis.ask(&command)
    }

    pub(crate) async fn push(&self, submission: Submission) -> JobId {
        self.queues.push(self.new_id(), submission).await.unwrap().unwrap().id
    }

    pub(crate) async fn push_plain(&self) -> JobId {
        self.push(submission()).await
    }

    pub(crate) async fn fetch(&self, want: usize) -> Vec<(JobId, Run)> {
        self.fetch_for(want, LEASE).await
    }

    pub(crate) async fn fetch_for(&self, want: usize, lease: Duration) -> Vec<(JobId, Run)> {
        let fetched = self.transitions.fetch("w1", want, lease, false).await.unwrap();
        fetched.claims.into_iter().map(|claim| (claim.id.clone(), claim.key())).collect()
    }

    pub(crate) async fn fetch_one(&self) -> (JobId, Run) {
        let mut fetched = self.fetch(1).await;
        assert_eq!(fetched.len(), 1);
        fetched.remove(0)
    }

    pub(crate) async fn settle(&self, run: Run, outcome: Outcome) -> bool {
        self.transitions.settle(&[Settlement { run, outcome }]).await.unwrap()[0]
    }

    /// The queue's outbox, opened.
    pub(crate) async fn outbox(&self, config: OutboxConfig) -> Outbox {
        let outbox = Outbox::of(&self.queues, self.name.clone(), config).await.unwrap();
        assert!(outbox.take(1).await.unwrap().is_empty());
        outbox
    }

    pub(crate) async fn job(&self, id: &JobId) -> Job {
        self.queues.get(id).await.unwrap().expect("the job is there")
    }

    pub(crate) async fn state(&self, id: &JobId) -> State {
        self.job(id).await.state
    }

    pub(crate) async fn count(&self, state: State) -> u64 {
        self.queues.counts(&self.name).await.unwrap().0[&state]
    }

    /// Lets the lease of a run be over now, and nobody have been away.
    pub(crate) fn expire(&self, run: Run) {
        self.redis.ask(redis::cmd("ZADD").arg(self.key("lease")).arg(1).arg(run.job.to_string()))
    }

    /// Lets a run have started and been renewed for the last time so long ago.
    fn rewind(&self, run: Run, started: Duration, renewed: Duration) {
        let ms = |time: Duration| i64::try_from(time.as_millis()).unwrap();
        let now = jiff::Timestamp::now().as_millisecond();
        let hash = self.key(&format!("j:{}", run.job));
        let () = self.redis.ask(redis::cmd("HSET").arg(hash).arg("start").arg(now - ms(started)));
        let until = now - ms(renewed) + ms(LEASE);
        self.redis.ask(redis::cmd("ZADD").arg(self.key("lease")).arg(until).arg(run.job.to_string()))
    }

    /// Reclaims as a process that has looked all the time.
    pub(crate) async fn reclaim(&self) -> u64 {
        let now = jiff::Timestamp::now().as_millisecond();
        let () = self.redis.ask(redis::cmd("HDEL").arg(self.key("m")).arg("grace"));
        let () = self.redis.ask(redis::cmd("HSET").arg(self.key("m")).arg("reclaimed").arg(now));
        self.transitions.reclaim(100, LEASE).await.unwrap()
    }
}

pub(crate) fn submission() -> Submission {
    Submission::new("test.echo".parse().unwrap(), payload("{}"))
}

pub(crate) fn payload(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).unwrap()
}

fn keyed(key: &str, json: &str) -> Submission {
    let mut submission = submission();
    submission.envelope.payload = payload(json);
    submission.idempotency_key = Some(key.to_owned());
    submission
}

pub(crate) fn succeeded() -> Outcome {
    Outcome::Succeeded { result: r#"{"ok":true}"#.into(), keep: KEEP }
}

pub(crate) fn error() -> ErrorReport {
    Failure::retry("busy", "come back later").report()
}

pub(crate) fn retrying(delay: Duration) -> Outcome {
    Outcome::Retrying { error: error(), delay, keep: KEEP }
}

async fn a_job_goes_from_waiting_to_succeeded(bench: Bench) {
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

async fn an_outcome_is_written_once(bench: Bench) {
    let id = bench.push_plain().await;
    let (_, run) = bench.fetch_one().await;
    assert!(bench.settle(run, succeeded()).await);
    assert!(!bench.settle(run, Outcome::Failed { error: error(), keep: KEEP }).await);
    assert_eq!(bench.state(&id).await, State::Succeeded);
}

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

async fn ten_thousand_runs_are_fetched_renewed_and_settled_in_bounded_steps(bench: Bench) {
    let jobs: Vec<_> = (0..10_000).map(|_| (bench.new_id(), submission())).collect();
    bench.queues.push_many(&bench.name, &jobs).await.unwrap();
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

async fn a_queue_at_its_limit_refuses_more_until_a_job_has_started(bench: Bench) {
    let _: u64 = bench.redis.ask(redis::cmd("HSET").arg(bench.key("m")).arg("limit").arg(2));
    let jobs: Vec<_> = (0..3).map(|_| (bench.new_id(), submission())).collect();
    let answers = bench.queues.push_many(&bench.name, &jobs).await.unwrap();
    assert!(answers[0].is_ok() && answers[1].is_ok());
    assert!(matches!(answers[2], Err(Refusal::QueueFull { retry_after }) if !retry_after.is_zero()));
    // What was accepted before is answered as before.
    assert!(bench.queues.push(jobs[0].0.clone(), submission()).await.unwrap().unwrap().existing);
    bench.fetch_one().await;
    bench.push_plain().await;
}

async fn a_job_starts_at_its_millisecond_and_not_before(bench: Bench) {
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

async fn a_retry_waits_to_the_millisecond(bench: Bench) {
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

async fn given_back_and_parked_runs_are_no_attempts(bench: Bench) {
    let id = bench.push_plain().await;
    let (_, run) = bench.fetch_one().await;
    assert!(bench.settle(run, Outcome::Released { delay: Duration::ZERO }).await);
    assert_eq!((bench.job(&id).await.attempts, bench.job(&id).await.run), (0, 1));

    let (_, run) = bench.fetch_one().await;
    let parked = Outcome::Parked { error: error(), reason: ParkReason::Offline, keep: KEEP };
    assert!(bench.settle(run, parked).await);
    let job = bench.job(&id).await;
    assert_eq!((job.state, job.attempts, job.parked_reason), (State::Parked, 0, Some(ParkReason::Offline)));
    assert!(bench.fetch(1).await.is_empty());

    assert_eq!(bench.queues.unpark(&bench.name, ParkReason::Offline, None).await.unwrap().released, 1);
    assert_eq!(bench.fetch_one().await.1.number, 3);
}

async fn a_given_back_job_is_the_next_of_its_lane(bench: Bench) {
    let first = bench.push_plain().await;
    bench.push_plain().await;
    let (_, run) = bench.fetch_one().await;
    bench.settle(run, Outcome::Released { delay: Duration::ZERO }).await;
    assert_eq!(bench.fetch_one().await.0, first);
}

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

async fn the_same_key_and_payload_give_the_same_job(bench: Bench) {
    let first = bench.push(keyed("k", r#"{"a":1}"#)).await;
    let again = bench.queues.push(bench.new_id(), keyed("k", r#"{"a":1}"#)).await.unwrap().unwrap();
    assert_eq!(again, Pushed { id: first.clone(), existing: true, is_like: false });
    let other = bench.queues.push(bench.new_id(), keyed("k", r#"{"a":2}"#)).await.unwrap();
    assert_eq!(other, Err(Refusal::IdempotencyConflict(first)));
    assert_eq!(bench.fetch(10).await.len(), 1);
}

async fn a_key_is_free_again_when_its_job_is_forgotten(bench: Bench) {
    let first = bench.push(keyed("k", "{}")).await;
    let (_, run) = bench.fetch_one().await;
    bench.settle(run, Outcome::Succeeded { result: String::new(), keep: Duration::ZERO }).await;
    tokio::time::sleep(Duration::from_millis(2)).await;
    bench.transitions.trim(100, (100, 100)).await.unwrap();
    assert_eq!(bench.queues.get(&first).await.unwrap(), None);
    let second = bench.queues.push(bench.new_id(), keyed("k", "{}")).await.unwrap().unwrap();
    assert!(!second.existing && second.id != first);
}

async fn pushing_the_same_id_twice_is_safe(bench: Bench) {
    let id = bench.new_id();
    let first = bench.queues.push(id.clone(), submission()).await.unwrap().unwrap();
    let second = bench.queues.push(id, submission()).await.unwrap().unwrap();
    assert_eq!((first.existing, second.existing), (false, true));
    assert_eq!(bench.fetch(10).await.len(), 1);
}

async fn concurrent_pushes_are_all_accepted_once(bench: Bench) {
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

async fn ten_thousand_jobs_in_one_call_get_an_answer_each(bench: Bench) {
    let jobs: Vec<_> = (0..10_000).map(|_| (bench.new_id(), submission())).collect();
    let answers = bench.queues.push_many(&bench.name, &jobs).await.unwrap();
    assert!(jobs.iter().zip(&answers).all(|((id, _), answer)| answer.as_ref().unwrap().id == *id));
    assert_eq!(bench.count(State::Waiting).await, 10_000);
}

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

async fn a_job_whose_deadline_has_passed_does_not_start(bench: Bench) {
    let mut late = submission();
    late.envelope.deadline = Some(jiff::Timestamp::now() - Duration::from_secs(1));
    let id = bench.push(late).await;
    assert!(bench.fetch(1).await.is_empty());
    let job = bench.job(&id).await;
    assert_eq!((job.state, job.error.unwrap().code.as_str()), (State::Failed, "expired"));
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

async fn a_list_walks_through_all_jobs_page_by_page(bench: Bench) {
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
            let page = bench.queues.list(&bench.name, &filter, cursor.as_deref(), limit).await.unwrap();
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
    let bad = bench.queues.list(&bench.name, &JobFilter::default(), Some("drop table"), 5).await;
    assert!(matches!(bad, Err(QueueError::Corrupt(_))));
}

pub(crate) fn entries(texts: &[&str]) -> Vec<LogEntry> {
    texts.iter().map(|text| LogEntry::new(LogLevel::Info, text)).collect()
}

/// Appends this many lines in steps of some size, called `line 1` and so on.
async fn log_lines(bench: &Bench, run: Run, lines: std::ops::RangeInclusive<u64>, step: usize) {
    let all: Vec<_> = lines.map(|n| LogEntry::new(LogLevel::Info, &format!("line {n}"))).collect();
    for entries in all.chunks(step) {
        assert_eq!(bench.transitions.log(&[(run, entries.to_vec())]).await.unwrap(), [true]);
    }
}

async fn the_lines_of_a_log_keep_their_numbers_and_the_newest_are_kept(bench: Bench) {
    let id = bench.push_plain().await;
    assert_eq!(bench.queues.log(&id, 0, 10).await.unwrap(), Some(LogPage::default()));
    let (_, run) = bench.fetch_one().await;
    let before = jiff::Timestamp::now() - Duration::from_secs(60);
    bench.transitions.log(&[(run, vec![LogEntry::new(LogLevel::Warn, "one\n\u{7}two ")])]).await.unwrap();
    let first = bench.queues.log(&id, 0, 10).await.unwrap().unwrap();
    let line = &first.lines[0];
    assert_eq!((line.n, line.run, line.level, line.text.as_str()), (1, 1, LogLevel::Warn, "one  two"));
    assert!(line.time > before && first.next == 1 && first.missed == 0);

    log_lines(&bench, run, 2..=1_500, 700).await;
    let page = bench.queues.log(&id, 3, 1_000).await.unwrap().unwrap();
    assert_eq!((page.lines.len(), page.lines[0].n, page.next, page.missed), (1_000, 501, 1_500, 497));
    assert!(page.lines.iter().all(|line| line.text == format!("line {}", line.n)));
    // Another run goes on counting, and a page goes on where the one before ended.
    bench.settle(run, retrying(Duration::ZERO)).await;
    bench.queues.retry(&id).await.unwrap();
    let (_, run) = bench.fetch_one().await;
    log_lines(&bench, run, 1_501..=1_501, 1).await;
    let page = bench.queues.log(&id, 1_499, 1).await.unwrap().unwrap();
    assert_eq!((page.lines.len(), page.lines[0].n, page.next), (1, 1_500, 1_500));
    let page = bench.queues.log(&id, page.next, 100).await.unwrap().unwrap();
    assert_eq!((page.lines.len(), page.lines[0].n, page.lines[0].run), (1, 1_501, 2));
    for beyond in [1_501, 1_502, u64::MAX] {
        let page = bench.queues.log(&id, beyond, 100).await.unwrap().unwrap();
        assert_eq!((page.lines.len(), page.next, page.missed), (0, 1_501, 0), "{beyond}");
    }
    assert_eq!(bench.job(&id).await.log_lines, 1_501);
    assert_eq!(bench.queues.log(&bench.new_id(), 0, 10).await.unwrap(), None);
}

async fn only_the_newest_run_writes_to_the_log(bench: Bench) {
    let id = bench.push_plain().await;
    let (_, old) = bench.fetch_one().await;
    bench.expire(old);
    bench.reclaim().await;
    let new = bench.transitions.fetch("w2", 1, LEASE, true).await.unwrap().claims[0].key();
    let news = [(old, entries(&["late"])), (new, entries(&["in time"]))];
    assert_eq!(bench.transitions.log(&news).await.unwrap(), [false, true]);
    bench.settle(new, succeeded()).await;
    assert_eq!(bench.transitions.log(&news).await.unwrap(), [false, false]);
    let page = bench.queues.log(&id, 0, 10).await.unwrap().unwrap();
    assert_eq!(page.lines.iter().map(|line| line.text.as_str()).collect::<Vec<_>>(), ["in time"]);
}

async fn a_slow_watcher_gets_every_line_once_in_order_and_before_the_end(bench: Bench) {
    let watcher = Watcher::start(bench.queues.clone(), vec![bench.name.clone()]);
    for (lines, missed) in [(40, 0), (900, 0), (1_300, 300)] {
        let id = bench.push_plain().await;
        let (_, mut watch) = watcher.watch(&id).await.unwrap().unwrap();
        let (_, run) = bench.fetch_one().await;
        log_lines(&bench, run, 1..=lines, 7).await;
        bench.settle(run, succeeded()).await;
        // Who comes when all is over gets what was said, if that is asked for.
        let (job, mut late) = watcher.watch(&id).await.unwrap().unwrap();
        assert_eq!(job.state, State::Succeeded);
        late.log_after(lines - 10);
        for n in lines - 9..=lines {
            let Some(Update::Log { line, missed: 0 }) = late.next().await else { panic!("no line {n}") };
            assert_eq!(line.n, n);
        }
        assert!(late.next().await.is_none());

        let (mut given, mut gone, mut last) = (Vec::new(), 0, None);
        while let Some(update) = watch.next().await {
            match update {
                Update::Log { line, missed } => {
                    assert_eq!(line.text, format!("line {}", line.n));
                    given.push(line.n);
                    gone += missed;
                    last = None;
                }
                Update::State(job) => last = Some(job.state),
                Update::Progress { .. } => {}
            }
        }
        assert_eq!(last, Some(State::Succeeded), "the end comes last");
        assert_eq!((given, gone), ((missed + 1..=lines).collect(), missed));
    }
}

async fn a_watcher_that_reads_gets_lines_as_they_come(bench: Bench) {
    let watcher = Watcher::start(bench.queues.clone(), vec![bench.name.clone()]);
    let id = bench.push_plain().await;
    let (_, run) = bench.fetch_one().await;
    log_lines(&bench, run, 1..=3, 3).await;
    // What was said before is not said again, unless it is asked for.
    let (job, mut watch) = watcher.watch(&id).await.unwrap().unwrap();
    let (_, mut whole) = watcher.watch(&id).await.unwrap().unwrap();
    whole.log_after(0);
    assert_eq!((job.log_lines, watch.place()), (3, (job.version, 3)));
    for n in 4..=120 {
        log_lines(&bench, run, n..=n, 1).await;
        let Some(Update::Log { line, missed: 0 }) = watch.next().await else { panic!("no line {n}") };
        assert_eq!(line.n, n);
    }
    for n in 1..=120 {
        let Some(Update::Log { line, missed: 0 }) = whole.next().await else { panic!("no line {n}") };
        assert_eq!(line.n, n);
    }
}

/// Pushes this many jobs, which fail with this code.
async fn fail(bench: &Bench, count: usize, code: &str) -> Vec<JobId> {
    let jobs: Vec<_> = (0..count).map(|_| (bench.new_id(), submission())).collect();
    bench.queues.push_many(&bench.name, &jobs).await.unwrap();
    let error = Failure::permanent(code, "no use").report();
    let settlements: Vec<_> = bench
        .fetch(count)
        .await
        .into_iter()
        .map(|(_, run)| Settlement { run, outcome: Outcome::Failed { error: error.clone(), keep: KEEP } })
        .collect();
    assert!(bench.transitions.settle(&settlements).await.unwrap().iter().all(|written| *written));
    jobs.into_iter().map(|(id, _)| id).collect()
}

/// Takes steps until the end; how many, and what they did.
async fn all_steps(bench: &Bench, action: DeadAction, filter: &JobFilter) -> (usize, u64, u64) {
    let (mut steps, mut matched, mut done, mut cursor) = (0, 0, 0, None);
    loop {
        let step = bench.queues.dead_step(&bench.name, action, filter, cursor.as_deref()).await.unwrap();
        (steps, matched, done, cursor) = (steps + 1, matched + step.matched, done + step.done, step.next);
        if cursor.is_none() {
            return (steps, matched, done);
        }
    }
}

async fn failed_jobs_are_replayed_by_filter_in_bounded_steps(bench: Bench) {
    // Many at the same moment, so that the place of a step lies among them.
    for _ in 0..2 {
        fail(&bench, 700, "busy").await;
        fail(&bench, 300, "broken").await;
    }
    let done = bench.push_plain().await;
    let (_, run) = bench.fetch_one().await;
    bench.settle(run, succeeded()).await;
    let cancelled = bench.push_plain().await;
    bench.queues.cancel(&cancelled).await.unwrap();

    let busy = JobFilter { error: Some("busy".into()), ..JobFilter::default() };
    let counted = all_steps(&bench, DeadAction::Count, &busy).await;
    assert_eq!((counted.1, counted.2, bench.count(State::Failed).await), (1_400, 0, 2_000));
    let (steps, matched, replayed) = all_steps(&bench, DeadAction::Replay, &busy).await;
    assert!(steps >= 2, "a step looks at a thousand");
    assert_eq!((matched, replayed), (1_400, 1_400));
    assert_eq!((bench.count(State::Failed).await, bench.count(State::Waiting).await), (600, 1_400));
    let runs = bench.fetch(1_000).await;
    let job = bench.job(&runs[0].0).await;
    assert_eq!((job.run, job.attempts), (2, 1));
    assert_eq!((bench.state(&done).await, bench.state(&cancelled).await), (State::Succeeded, State::Cancelled));
    let bad = bench.queues.dead_step(&bench.name, DeadAction::Count, &busy, Some("1_2_3")).await;
    assert!(matches!(bad, Err(QueueError::Corrupt(_))));
}

async fn what_fails_again_while_the_dead_letter_is_replayed_is_not_replayed_again(bench: Bench) {
    for _ in 0..2 {
        fail(&bench, 600, "busy").await;
    }
    let filter = JobFilter::default();
    let first = bench.queues.dead_step(&bench.name, DeadAction::Replay, &filter, None).await.unwrap();
    assert_eq!(first.done, 1_000);
    tokio::time::sleep(Duration::from_millis(2)).await; // What fails in this very millisecond would count.
    for (_, run) in bench.fetch(1_000).await {
        bench.settle(run, Outcome::Failed { error: error(), keep: KEEP }).await;
    }
    let mut cursor = first.next;
    let mut done = 0;
    while let Some(next) = cursor {
        let step = bench.queues.dead_step(&bench.name, DeadAction::Replay, &filter, Some(&next)).await.unwrap();
        (done, cursor) = (done + step.done, step.next);
    }
    assert_eq!(done, 200);
}

async fn failed_jobs_are_found_by_error_tag_kind_and_time(bench: Bench) {
    let old = fail(&bench, 2, "busy").await;
    let end = bench.job(&old[0]).await.finished_at.unwrap();
    let mut tagged = submission();
    tagged.envelope.tags = vec!["night".into()];
    let tagged = bench.push(tagged).await;
    let (_, run) = bench.fetch_one().await;
    tokio::time::sleep(Duration::from_millis(2)).await; // Another millisecond.
    bench.settle(run, Outcome::Failed { error: error(), keep: KEEP }).await;
    let later = bench.job(&tagged).await.finished_at.unwrap();
    let all = JobFilter::default;
    for (filter, count) in [
        (all(), 3),
        (JobFilter { error: Some("busy".into()), ..all() }, 3),
        (JobFilter { error: Some("bus".into()), ..all() }, 0),
        (JobFilter { tag: Some("night".into()), ..all() }, 1),
        (JobFilter { kind: Some("test.echo".parse().unwrap()), ..all() }, 3),
        (JobFilter { kind: Some("test.other".parse().unwrap()), ..all() }, 0),
        (JobFilter { finished_after: Some(later), ..all() }, 1),
        (JobFilter { finished_after: Some(end), finished_before: Some(later), ..all() }, 2),
        (JobFilter { finished_before: Some(end), ..all() }, 0),
    ] {
        assert_eq!(all_steps(&bench, DeadAction::Count, &filter).await.1, count, "{filter:?}");
        let listed = JobFilter { states: vec![State::Failed], ..filter };
        let page = bench.queues.list(&bench.name, &listed, None, 50).await.unwrap();
        assert_eq!(page.jobs.len() as u64, count, "{listed:?}");
    }
}

async fn purged_jobs_leave_no_key_and_right_counts(bench: Bench) {
    let succeeds = bench.push_plain().await;
    let (_, run) = bench.fetch_one().await;
    bench.settle(run, succeeded()).await;
    let mut keyed = keyed("k", "{}");
    keyed.envelope.deadline = Some(jiff::Timestamp::now() + Duration::from_secs(3_600));
    let failing = bench.push(keyed.clone()).await;
    let (_, run) = bench.fetch_one().await;
    bench.transitions.progress(&[(run, r#"{"stage":"x","percent":1}"#.to_owned())]).await.unwrap();
    bench.transitions.log(&[(run, entries(&["a word"]))]).await.unwrap();
    bench.settle(run, Outcome::Failed { error: error(), keep: KEEP }).await;
    let waiting = bench.push_plain().await;

    let purge = async |ids: &[JobId]| {
        let step = bench.queues.dead_jobs(&bench.name, DeadAction::Purge, ids).await.unwrap();
        (step.matched, step.done)
    };
    assert_eq!(purge(&[succeeds.clone(), waiting.clone(), bench.new_id()]).await, (0, 0));
    assert_eq!(purge(&[failing.clone(), failing.clone(), succeeds.clone()]).await, (1, 1));
    assert_eq!(bench.queues.get(&failing).await.unwrap(), None);
    let of_it = bench.keys().into_iter().filter(|key| key.contains(&failing.uuid().to_string()));
    assert_eq!(of_it.collect::<Vec<_>>(), Vec::<String>::new());
    assert!(!bench.keys().contains(&bench.key("dead")));
    let counts = [State::Failed, State::Succeeded, State::Waiting];
    let mut counted = Vec::new();
    for state in counts {
        counted.push(bench.count(state).await);
    }
    assert_eq!(counted, [0, 1, 1]);
    // The key of a job that is gone is free.
    assert!(!bench.queues.push(bench.new_id(), keyed).await.unwrap().unwrap().existing);
}

async fn every_run_that_failed_can_be_inspected(bench: Bench) {
    let id = bench.push_plain().await;
    for delay in [Duration::ZERO, SHORT] {
        bench.queues.retry(&id).await.unwrap(); // Ends a delay.
        let (_, run) = bench.fetch_one().await;
        tokio::time::sleep(Duration::from_millis(3)).await; // It lasts.
        bench.settle(run, retrying(delay)).await;
    }
    let runs = bench.queues.runs(&id).await.unwrap();
    assert_eq!(runs.iter().map(|run| run.run).collect::<Vec<_>>(), [1, 2]);
    for run in runs {
        assert_eq!((run.worker.as_str(), run.error.code.as_str()), ("w1", "busy"));
        let lasted = run.ended_at.duration_since(run.started_at).as_millis();
        assert!(lasted >= 3 && i128::from(run.duration_ms) == lasted, "{run:?}");
    }
}

async fn parked_jobs_are_listed_counted_and_released_by_reason(bench: Bench) {
    for (count, reason) in [(1_100, ParkReason::Offline), (3, ParkReason::NotConfigured)] {
        let jobs: Vec<_> = (0..count).map(|_| (bench.new_id(), submission())).collect();
        bench.queues.push_many(&bench.name, &jobs).await.unwrap();
        while let runs = bench.fetch(1_000).await
            && !runs.is_empty()
        {
            let parked = || Outcome::Parked { error: error(), reason, keep: KEEP };
            let settlements: Vec<_> = runs.into_iter().map(|(_, run)| Settlement { run, outcome: parked() }).collect();
            bench.transitions.settle(&settlements).await.unwrap();
        }
    }
    let parked = bench.queues.parked(&bench.name).await.unwrap();
    assert_eq!(parked, [(ParkReason::NotConfigured, 3), (ParkReason::Offline, 1_100)].into());
    let filter = JobFilter { parked_reason: Some(ParkReason::NotConfigured), ..JobFilter::default() };
    let page = bench.queues.list(&bench.name, &filter, None, 50).await.unwrap();
    assert_eq!((page.jobs.len(), page.jobs[0].parked_reason), (3, Some(ParkReason::NotConfigured)));

    let first = bench.queues.unpark(&bench.name, ParkReason::Offline, None).await.unwrap();
    assert_eq!(first.released, 1_000);
    tokio::time::sleep(Duration::from_millis(2)).await; // What is parked in this very millisecond would count.
    // Those that are parked again are not released again.
    for (_, run) in bench.fetch(10).await {
        bench.settle(run, Outcome::Parked { error: error(), reason: ParkReason::Offline, keep: KEEP }).await;
    }
    let second = bench.queues.unpark(&bench.name, ParkReason::Offline, first.next.as_deref()).await.unwrap();
    assert_eq!((second.released, second.next), (100, None));
    assert_eq!(bench.queues.parked(&bench.name).await.unwrap()[&ParkReason::Offline], 10);
    let bad = bench.queues.unpark(&bench.name, ParkReason::Offline, Some("x")).await;
    assert!(matches!(bad, Err(QueueError::Corrupt(_))));
}

async fn a_key_lives_as_long_as_it_was_told_to(bench: Bench) {
    let mut short = keyed("k", "{}");
    for (life, expected) in [(90, 90), (0, 1), (90 * 24 * 3_600, 30 * 24 * 3_600)] {
        short.idempotency_key = Some(format!("key of {life}"));
        short.key_life = Duration::from_secs(life);
        let first = bench.push(short.clone()).await;
        let keys = bench.keys();
        let holds = |key: &&String| {
            key.starts_with(&bench.key("i:")) && {
                let held: Option<String> = bench.redis.ask(redis::cmd("GET").arg(key));
                held.is_some_and(|held| held.starts_with(&first.uuid().to_string()))
            }
        };
        let key = keys.iter().find(holds).expect("the key is there");
        let left: i64 = bench.redis.ask(redis::cmd("PTTL").arg(key));
        assert!((expected * 1_000 - 900..=expected * 1_000).contains(&left), "{life} s: {left} ms are left");
        if life == 90 {
            let again = bench.queues.push(bench.new_id(), short.clone()).await.unwrap().unwrap();
            assert_eq!(again, Pushed { id: first.clone(), existing: true, is_like: false });
            // Its time is over.
            let () = bench.redis.ask(redis::cmd("PEXPIRE").arg(key).arg(0));
            let second = bench.queues.push(bench.new_id(), short.clone()).await.unwrap().unwrap();
            assert!(!second.existing && second.id != first);
        }
    }
}

async fn keys_of_another_layout_are_not_touched(bench: Bench) {
    let () = bench.redis.ask(redis::cmd("HSET").arg(bench.key("m")).arg("layout").arg(99));
    let queues = bench.redis.connect().await.unwrap();
    let error = queues.push(bench.new_id(), submission()).await.unwrap_err();
    assert!(matches!(&error, QueueError::Unsuitable(text) if text.contains("99")), "{error}");
}

async fn a_slow_watcher_gets_the_newest_progress_and_the_end(bench: Bench) {
    let watcher = Watcher::start(bench.queues.clone(), vec![bench.name.clone()]);
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
            Update::Log { .. } => panic!("nobody logs"),
        });
    }
    assert!(versions.is_sorted() && versions.len() < 100, "{versions:?}");
    assert_eq!(*versions.last().unwrap(), bench.job(&id).await.version);
}

async fn the_outbox_holds_all_that_is_known_of_a_finished_job(bench: Bench) {
    let outbox = bench.outbox(OutboxConfig::default()).await;
    let mut wanted = submission();
    wanted.envelope.tags = vec!["one".into(), "two words".into()];
    wanted.priority = Priority::High;
    let id = bench.push(wanted).await;
    let (_, run) = bench.fetch_one().await;
    bench.settle(run, retrying(Duration::ZERO)).await;
    bench.queues.retry(&id).await.unwrap();
    let (_, run) = bench.fetch_one().await;
    bench.transitions.progress(&[(run, r#"{"stage":"encode","percent":99}"#.to_owned())]).await.unwrap();
    assert!(outbox.take(10).await.unwrap().is_empty(), "it is not over yet");
    bench.settle(run, succeeded()).await;

    let batch = outbox.take(10).await.unwrap();
    let runs = bench.queues.runs(&id).await.unwrap();
    assert_eq!(runs.len(), 1);
    assert_eq!(batch.records, [JobRecord { job: bench.job(&id).await, worker: Some("w1".into()), runs }]);
    assert_eq!(bench.queues.outbox(&bench.name).await.unwrap().map(|outbox| outbox.waiting), Some(1));
    outbox.acknowledge(&batch).await.unwrap();
    assert_eq!(bench.queues.outbox(&bench.name).await.unwrap().map(|outbox| outbox.waiting), Some(0));

    // A replay ends once more, under a higher version.
    let id = bench.push_plain().await;
    bench.queues.cancel(&id).await.unwrap();
    bench.queues.retry(&id).await.unwrap();
    bench.queues.cancel(&id).await.unwrap();
    let versions: Vec<_> =
        records(&outbox).await.into_iter().map(|it| (it.job.id, it.job.state, it.job.version)).collect();
    assert_eq!(versions, [(id.clone(), State::Cancelled, 2), (id, State::Cancelled, 4)]);
}

/// Takes what is in an outbox, and acknowledges it.
async fn records(outbox: &Outbox) -> Vec<JobRecord> {
    let batch = outbox.take(1_000).await.unwrap();
    assert!(batch.unreadable.is_empty(), "{:?}", batch.unreadable);
    outbox.acknowledge(&batch).await.unwrap();
    batch.records
}

async fn an_outbox_that_nobody_consumes_is_not_filled(bench: Bench) {
    bench.push_plain().await;
    let (_, run) = bench.fetch_one().await;
    bench.settle(run, succeeded()).await;
    assert_eq!(bench.queues.outbox(&bench.name).await.unwrap(), None);
    assert!(!bench.keys().contains(&bench.key("out")));
}

async fn the_outbox_holds_what_the_kind_says(bench: Bench) {
    let outbox = bench.outbox(OutboxConfig::default()).await;
    let mut expected = Vec::new();
    for (history, kept) in
        [(History::All, [true, true]), (History::Failures, [true, false]), (History::None, [false; 2])]
    {
        let failed = Outcome::Failed { error: error(), keep: KEEP };
        for (outcome, kept) in [failed, succeeded()].into_iter().zip(kept) {
            let mut submission = submission();
            submission.history = history;
            let id = bench.push(submission).await;
            let (_, run) = bench.fetch_one().await;
            bench.settle(run, outcome).await;
            expected.extend(kept.then_some(id));
        }
    }
    let found: Vec<_> = records(&outbox).await.into_iter().map(|record| record.job.id).collect();
    assert_eq!(found, expected);
}

async fn what_is_taken_from_the_outbox_and_not_acknowledged_comes_again(bench: Bench) {
    let patient = bench.outbox(OutboxConfig::default()).await;
    let impatient = bench.outbox(OutboxConfig { redeliver_after: Duration::ZERO, ..OutboxConfig::default() }).await;
    for _ in 0..10 {
        let id = bench.push_plain().await;
        bench.queues.cancel(&id).await.unwrap();
    }
    let ids = |batch: &Batch| batch.records.iter().map(|record| record.job.id.clone()).collect::<Vec<_>>();
    let first = patient.take(4).await.unwrap();
    let second = patient.take(100).await.unwrap();
    assert_eq!((first.len(), second.len()), (4, 6));
    assert!(patient.take(100).await.unwrap().is_empty(), "they are somebody's");

    let again = impatient.take(100).await.unwrap();
    assert_eq!(ids(&again), [ids(&first), ids(&second)].concat());
    patient.acknowledge(&first).await.unwrap();
    assert_eq!(ids(&impatient.take(100).await.unwrap()), ids(&second));
    patient.acknowledge(&second).await.unwrap();
    patient.acknowledge(&second).await.unwrap();
    assert!(impatient.take(100).await.unwrap().is_empty());
}

async fn a_full_outbox_drops_the_oldest_and_says_how_many(bench: Bench) {
    let outbox = bench.outbox(OutboxConfig { most: 200, ..OutboxConfig::default() }).await;
    let jobs: Vec<_> = (0..2_000).map(|_| (bench.new_id(), submission())).collect();
    bench.queues.push_many(&bench.name, &jobs).await.unwrap();
    for _ in 0..10 {
        let runs = bench.fetch(200).await.into_iter();
        let settlements: Vec<_> = runs.map(|(_, run)| Settlement { run, outcome: succeeded() }).collect();
        bench.transitions.settle(&settlements).await.unwrap();
    }
    let state = bench.queues.outbox(&bench.name).await.unwrap().unwrap();
    assert!((200..400).contains(&state.waiting), "{state:?}");
    assert_eq!(state.waiting + state.dropped, 2_000);
    let batch = outbox.take(1_000).await.unwrap();
    assert_eq!((batch.records.len() as u64, batch.dropped), (state.waiting, state.dropped));
    assert_eq!(batch.records.last().unwrap().job.id, jobs[1_999].0, "the newest is there");
}

async fn an_outbox_that_redis_has_lost_is_opened_again(bench: Bench) {
    let outbox = bench.outbox(OutboxConfig::default()).await;
    for key in bench.keys() {
        let () = bench.redis.ask(redis::cmd("DEL").arg(key));
    }
    assert!(outbox.take(10).await.unwrap().is_empty());
    let id = bench.push_plain().await;
    bench.queues.cancel(&id).await.unwrap();
    assert_eq!(records(&outbox).await[0].job.id, id);

    // Somebody has removed the stream alone.
    let () = bench.redis.ask(redis::cmd("DEL").arg(bench.key("out")));
    let id = bench.push_plain().await;
    bench.queues.cancel(&id).await.unwrap();
    outbox.take(10).await.unwrap_err();
    assert_eq!(records(&outbox).await[0].job.id, id);
}

async fn an_entry_of_the_outbox_that_cannot_be_read_does_not_stand_in_the_way(bench: Bench) {
    let outbox = bench.outbox(OutboxConfig::default()).await;
    let broken = bench.push_plain().await;
    let () = bench.redis.ask(redis::cmd("SET").arg(bench.key(&format!("b:{}", broken.uuid()))).arg("{nonsense"));
    let whole = bench.push_plain().await;
    for id in [&broken, &whole] {
        bench.queues.cancel(id).await.unwrap();
    }
    let batch = outbox.take(10).await.unwrap();
    assert_eq!(batch.records[0].job.id, whole);
    assert!(batch.unreadable[0].to_string().contains(&broken.to_string()), "{:?}", batch.unreadable);
    outbox.acknowledge(&batch).await.unwrap();
    assert_eq!(bench.queues.outbox(&bench.name).await.unwrap().map(|outbox| outbox.waiting), Some(0));
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

/// A watcher gets a snapshot, then what follows, and always the end, whatever happens to the connections meanwhile.
pub(crate) async fn a_watched_job_is_followed_through(bench: &Bench, outage: impl FnOnce()) {
    let watcher = Watcher::start(bench.queues.clone(), vec![bench.name.clone()]);
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

    // The end, and the lines before it, are seen even if their events are lost with the connection.
    outage();
    while bench.transitions.log(&[(run, entries(&["a last word"]))]).await.is_err() {}
    while bench.transitions.settle(&[Settlement { run, outcome: succeeded() }]).await.is_err() {}
    for watch in [&mut watch, &mut late_watch] {
        let (mut said, mut end) = (Vec::new(), None);
        while let Some(update) = watch.next().await {
            match update {
                Update::Log { line, missed: 0 } => said.push(line.n),
                Update::State(job) => end = Some(job.state),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(end, Some(State::Succeeded));
        // A line whose answer was lost may be there twice, under two numbers.
        assert!(said.first() == Some(&1) && said.is_sorted_by(|one, next| one + 1 == *next), "{said:?}");
        assert!(watch.next().await.is_none());
    }
    assert!(watcher.watch(&bench.new_id()).await.unwrap().is_none());
}

macro_rules! promises {
    ($($name:ident),+ $(,)?) => {
        /// Every promise on a plain Redis of its own, so that a broken one is named.
        mod on_one_server {
            use super::Bench;
            $(
                #[tokio::test]
                async fn $name() {
                    super::$name(Bench::new().await).await;
                }
            )+
        }

        /// Every promise on one Redis, a few at a time, each with a queue of its own.
        pub(crate) async fn all_promises_hold_on(redis: &Arc<Topology>) {
            let promises: Vec<(&str, fn(Bench) -> BoxFuture<'static, ()>)> =
                vec![$((stringify!($name), |bench| $name(bench).boxed())),+];
            let checks = promises.into_iter().enumerate().map(|(number, (name, promise))| async move {
                let bench = Bench::on(redis.clone(), &format!("test{number}")).await;
                tokio::spawn(promise(bench)).await.unwrap_or_else(|_| panic!("this is broken: {name}"));
            });
            stream::iter(checks).buffer_unordered(4).collect::<()>().await;
        }
    };
}

promises! {
    the_outbox_holds_all_that_is_known_of_a_finished_job,
    an_outbox_that_nobody_consumes_is_not_filled,
    the_outbox_holds_what_the_kind_says,
    what_is_taken_from_the_outbox_and_not_acknowledged_comes_again,
    a_full_outbox_drops_the_oldest_and_says_how_many,
    an_outbox_that_redis_has_lost_is_opened_again,
    an_entry_of_the_outbox_that_cannot_be_read_does_not_stand_in_the_way,
    every_end_keeps_a_job_as_long_as_its_kind_says,
    a_suspect_that_was_given_back_or_delayed_still_runs_alone,
    a_job_that_is_cancelled_and_replayed_again_and_again_has_one_entry_in_its_lane,
    the_error_of_a_job_that_expired_is_no_result_after_its_replay,
    a_deadline_fails_a_job_that_no_worker_fetches,
    ten_thousand_runs_are_fetched_renewed_and_settled_in_bounded_steps,
    a_queue_at_its_limit_refuses_more_until_a_job_has_started,
    a_job_starts_at_its_millisecond_and_not_before,
    a_job_goes_from_waiting_to_succeeded,
    an_outcome_is_written_once,
    a_run_that_lost_its_lease_cannot_settle_renew_or_report,
    an_expired_lease_that_nobody_reclaimed_still_counts,
    after_an_outage_every_lease_gets_one_more_lease_of_time,
    a_lost_run_is_not_held_against_the_job_but_an_in_process_job_next_runs_alone,
    a_job_that_takes_its_worker_down_alone_three_times_has_failed,
    an_isolated_job_of_a_dead_worker_goes_to_the_front_of_its_lane,
    the_third_crash_of_a_child_ends_the_job,
    an_endless_job_may_crash_again_after_ten_minutes_that_went_well,
    a_retry_waits_to_the_millisecond,
    given_back_and_parked_runs_are_no_attempts,
    a_given_back_job_is_the_next_of_its_lane,
    cancel_before_the_start_is_final_and_leaves_nothing_to_run,
    cancel_of_a_running_job_asks_its_run_and_wins_over_a_retry,
    a_failed_or_cancelled_job_is_replayed_with_a_fresh_budget,
    retry_lets_a_delayed_job_run_now,
    the_same_key_and_payload_give_the_same_job,
    a_key_is_free_again_when_its_job_is_forgotten,
    pushing_the_same_id_twice_is_safe,
    concurrent_pushes_are_all_accepted_once,
    ten_thousand_jobs_in_one_call_get_an_answer_each,
    jobs_of_one_priority_are_first_in_first_out,
    a_higher_priority_goes_first_and_a_lower_one_is_never_starved,
    a_job_whose_deadline_has_passed_does_not_start,
    finished_jobs_are_forgotten_by_age_and_number_and_leave_no_key,
    a_list_walks_through_all_jobs_page_by_page,
    keys_of_another_layout_are_not_touched,
    a_slow_watcher_gets_the_newest_progress_and_the_end,
    the_lines_of_a_log_keep_their_numbers_and_the_newest_are_kept,
    only_the_newest_run_writes_to_the_log,
    a_slow_watcher_gets_every_line_once_in_order_and_before_the_end,
    a_watcher_that_reads_gets_lines_as_they_come,
    failed_jobs_are_replayed_by_filter_in_bounded_steps,
    what_fails_again_while_the_dead_letter_is_replayed_is_not_replayed_again,
    failed_jobs_are_found_by_error_tag_kind_and_time,
    purged_jobs_leave_no_key_and_right_counts,
    every_run_that_failed_can_be_inspected,
    parked_jobs_are_listed_counted_and_released_by_reason,
    a_key_lives_as_long_as_it_was_told_to,
}
