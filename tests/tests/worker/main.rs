//! Worker processes on the real runtime, driven through the queue: what they survive, and what they leave behind.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod control;
mod rolling;

use std::{path::PathBuf, time::Duration};

use fourmi_kinds::JobKind;
use fourmi_model::{Job, JobId, LogLevel, QueueName, State, Submission};
use fourmi_queue::{Cancelled, Queues, Update, Watcher};
use fourmi_tests::{
    Program, RedisServer, descriptors, eventually, eventually_async,
    kinds::{Echo, Fail, Greet, GreetOne, Hold, HoldInChild, Misbehave, Misdeed, QUEUE, Steps, Talk, TalkInChild},
};
use nix::sys::signal::Signal;
use serde_json::json;
use tempfile::TempDir;

/// A Redis, a data folder, and the means to start workers on them.
struct Yard {
    redis: RedisServer,
    data: TempDir,
    queues: Queues,
    watcher: Watcher,
}

impl Yard {
    async fn new() -> Self {
        let redis = RedisServer::start();
        let data = TempDir::new().unwrap();
        let queues = Queues::connect(&redis.url()).await.unwrap();
        let watcher = Watcher::start(queues.clone(), vec![queue()]);
        Self { redis, data, queues, watcher }
    }

    fn worker(&self) -> Program {
        self.worker_with(&[])
    }

    fn worker_with(&self, settings: &[(&str, &str)]) -> Program {
        let worker = self.starting(settings);
        worker.wait_for_line("ready");
        worker
    }

    /// A worker that may not be ready yet.
    fn starting(&self, settings: &[(&str, &str)]) -> Program {
        let mut environment = vec![
            ("REDIS_URL", self.redis.url()),
            ("FOURMI_DATA", self.data.path().display().to_string()),
            ("FOURMI_LEASE_MS", "1500".to_owned()),
            ("FOURMI_LOG", "info".to_owned()),
        ];
        environment.extend(settings.iter().map(|(name, value)| (*name, (*value).to_owned())));
        Program::start("fourmi-test-worker", &[], environment)
    }

    async fn push<K: JobKind>(&self, job: &K) -> JobId {
        let payload = serde_json::value::to_raw_value(job).unwrap();
        let mut submission = Submission::new(K::NAME.parse().unwrap(), payload);
        submission.envelope.schema_version = K::SCHEMA_VERSION;
        submission.note(&K::policy());
        self.queues.push(JobId::new(queue()), submission).await.unwrap().unwrap().id
    }

    /// Waits for the end of a job.
    async fn end(&self, id: &JobId) -> Job {
        self.until(id, |job| job.state.is_final()).await
    }

    async fn until(&self, id: &JobId, there: impl Fn(&Job) -> bool) -> Job {
        let waited = tokio::time::timeout(Duration::from_secs(60), async {
            let (mut job, mut watch) = self.watcher.watch(id).await.unwrap().expect("the job is there");
            while !there(&job) {
                match watch.next().await.expect("more to come") {
                    Update::State(newer) => job = *newer,
                    Update::Progress { .. } | Update::Log { .. } => {}
                }
            }
            job
        });
        waited.await.expect("the job gets there in time")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.data.path().join(name)
    }

    fn lines(&self, name: &str) -> Vec<String> {
        std::fs::read_to_string(self.file(name)).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    fn open_gate(&self) {
        std::fs::write(self.file("gate"), "").unwrap();
    }

    fn hold(&self, polite: bool) -> Hold {
        Hold { journal: self.file("journal"), gate: self.file("gate"), polite }
    }

    /// Waits until the journal of a held job says so.
    fn journal_says(&self, line: &str) {
        eventually(line, || self.lines("journal").iter().any(|it| it.starts_with(line)));
    }

    fn misbehave(&self, how: Misdeed) -> Misbehave {
        Misbehave { how, journal: self.file("processes") }
    }

    /// Whether nothing of what the journal of processes names is alive.
    fn nothing_lives(&self) {
        for line in self.lines("processes") {
            eventually("the end of a process", || {
                let stat = std::fs::read_to_string(format!("/proc/{line}/stat")).unwrap_or_default();
                stat.is_empty() || stat.contains(") Z ")
            });
        }
    }

    fn scratch_is_empty(&self) {
        let runs = || {
            let workers = std::fs::read_dir(self.data.path().join("scratch")).into_iter().flatten().flatten();
            workers.flat_map(|worker| std::fs::read_dir(worker.path()).into_iter().flatten()).count()
        };
        eventually("the scratch folders are empty", || runs() == 0);
    }
}

fn queue() -> QueueName {
    QUEUE.parse().unwrap()
}

#[tokio::test]
async fn a_worker_runs_a_job_and_gives_its_result() {
    let yard = Yard::new().await;
    let _worker = yard.worker();
    let id = yard.push(&Echo { value: json!({"a": [1, 2]}) }).await;
    let job = yard.end(&id).await;
    assert_eq!((job.state, job.result), (State::Succeeded, Some(json!({"a": [1, 2]}))));
}

#[tokio::test]
async fn failures_are_tried_again_until_the_budget_is_used_up() {
    let yard = Yard::new().await;
    let _worker = yard.worker();
    let twice = yard.push(&Fail { times: 2, ..Fail::default() }).await;
    let panics = yard.push(&Fail { times: 1, panic: true, ..Fail::default() }).await;
    let always = yard.push(&Fail { times: 9, ..Fail::default() }).await;
    let at_once = yard.push(&Fail { times: 1, permanent: true, ..Fail::default() }).await;
    assert_eq!(yard.end(&twice).await.result, Some(json!(3)));
    assert_eq!(yard.end(&panics).await.result, Some(json!(2)));
    assert_eq!(yard.queues.runs(&panics).await.unwrap()[0].error.code, "panic");
    for (id, runs) in [(always, 3), (at_once, 1)] {
        let job = yard.end(&id).await;
        assert_eq!((job.state, job.error.unwrap().code.as_str(), job.run), (State::Failed, "told_to", runs));
        assert_eq!(yard.queues.runs(&id).await.unwrap().len() as u64, runs);
    }
}

#[tokio::test]
async fn what_the_other_side_asks_for_wins_over_the_backoff() {
    let yard = Yard::new().await;
    let _worker = yard.worker();
    let hour = 3_600_000;
    // The backoff of the kind is fifty milliseconds at most.
    let id = yard.push(&Fail { times: 1, after_ms: Some(hour), ..Fail::default() }).await;
    let job = yard.until(&id, |job| job.state == State::Retrying).await;
    let failed = yard.queues.runs(&id).await.unwrap().remove(0);
    let wait = job.due_at.unwrap().as_millisecond() - failed.ended_at.as_millisecond();
    assert_eq!((wait.unsigned_abs(), failed.error.retry_after_ms), (hour, Some(hour)));
}

#[tokio::test]
async fn a_killed_worker_loses_no_job() {
    let yard = Yard::new().await;
    let mut first = yard.worker();
    let here = yard.push(&yard.hold(true)).await;
    let in_child = yard.push(&HoldInChild(yard.hold(true))).await;
    eventually("both run", || yard.lines("journal").len() == 2);
    first.kill();
    // The child has died with its parent.
    let child: Vec<String> =
        yard.lines("journal").iter().filter_map(|line| line.split(' ').nth(2).map(str::to_owned)).collect();
    std::fs::write(yard.file("processes"), child.join("\n")).unwrap();
    yard.nothing_lives();

    yard.open_gate();
    let _second = yard.worker();
    for id in [here, in_child] {
        let job = yard.end(&id).await;
        assert_eq!((job.state, job.run, job.attempts, job.crashes), (State::Succeeded, 2, 1, 0));
        assert_eq!(yard.queues.runs(&id).await.unwrap()[0].error.code, "worker_lost");
    }
    yard.scratch_is_empty();
}

#[tokio::test]
async fn only_one_worker_makes_itself_idle_for_a_suspect() {
    let yard = Yard::new().await;
    let mut first = yard.worker_with(&[("FOURMI_SLOTS", "1")]);
    let suspect = yard.push(&yard.hold(true)).await;
    let started = |jobs| {
        let starts = || yard.lines("journal").iter().filter(|line| line.starts_with("1 started")).count();
        eventually("a job runs", || starts() == jobs);
    };
    started(1);
    // Both of the others have a job that goes on, and a free slot.
    let two_slots = [("FOURMI_SLOTS", "2")];
    let second = yard.worker_with(&two_slots);
    yard.push(&HoldInChild(yard.hold(true))).await;
    started(2);
    second.signal(Signal::SIGSTOP);
    let _third = yard.worker_with(&two_slots);
    yard.push(&HoldInChild(yard.hold(true))).await;
    started(3);
    second.signal(Signal::SIGCONT);
    first.kill();
    yard.until(&suspect, |job| job.state == State::Waiting).await;
    // For far longer than a lease, one of them takes what comes.
    let since = std::time::Instant::now();
    while since.elapsed() < Duration::from_secs(5) {
        let id = yard.push(&Echo { value: json!(1) }).await;
        yard.end(&id).await;
    }
    assert_eq!(yard.queues.get(&suspect).await.unwrap().unwrap().state, State::Waiting);
    yard.open_gate();
    assert_eq!(yard.end(&suspect).await.run, 2);
}

#[tokio::test]
async fn a_worker_that_was_paused_past_its_lease_cannot_settle() {
    let yard = Yard::new().await;
    let paused = yard.worker();
    let id = yard.push(&yard.hold(true)).await;
    yard.journal_says("1 started");
    paused.signal(Signal::SIGSTOP);
    let _second = yard.worker();
    yard.journal_says("2 started");
    // The first wakes up and is told that its run is over; only the second one's end counts.
    paused.signal(Signal::SIGCONT);
    yard.journal_says("1 stopped");
    yard.open_gate();
    let job = yard.end(&id).await;
    assert_eq!((job.state, job.run), (State::Succeeded, 2));
    assert!(!yard.lines("journal").contains(&"1 ended".to_owned()));
}

#[tokio::test]
async fn two_workers_make_one_result() {
    let yard = Yard::new().await;
    let _workers = [yard.worker(), yard.worker()];
    let mut ids = Vec::new();
    for _ in 0..300 {
        ids.push(yard.push(&Echo { value: json!(1) }).await);
    }
    for id in &ids {
        let job = yard.end(id).await;
        assert_eq!((job.state, job.run), (State::Succeeded, 1));
    }
}

#[tokio::test]
async fn workers_live_through_an_absence_of_redis() {
    let mut yard = Yard::new().await;
    let worker = yard.worker();
    let running = yard.push(&yard.hold(true)).await;
    yard.journal_says("1 started");
    let waiting = yard.push(&Fail { times: 1, ..Fail::default() }).await;
    yard.end(&waiting).await;
    yard.redis.kill();
    // The job ends while Redis is away; the lease (1.5 s) runs out as well.
    yard.open_gate();
    yard.journal_says("1 ended");
    worker.wait_for_line("outcomes cannot be written");
    tokio::time::sleep(Duration::from_secs(3)).await;
    yard.redis.restart();
    let job = yard.end(&running).await;
    assert_eq!((job.state, job.run), (State::Succeeded, 1));
    let later = yard.push(&Echo { value: json!(2) }).await;
    assert_eq!(yard.end(&later).await.state, State::Succeeded);
}

#[tokio::test]
async fn a_worker_waits_for_a_redis_that_is_not_there_yet() {
    let mut yard = Yard::new().await;
    let id = yard.push(&Echo { value: json!(1) }).await;
    yard.redis.kill();
    let url = yard.redis.url();
    let data = yard.data.path().display().to_string();
    let worker = Program::start("fourmi-test-worker", &[], [("REDIS_URL", url), ("FOURMI_DATA", data)]);
    worker.wait_for_line("waiting for Redis");
    yard.redis.restart();
    worker.wait_for_line("ready");
    assert_eq!(yard.end(&id).await.state, State::Succeeded);
}

#[tokio::test]
async fn cancel_stops_a_run_wherever_it_runs() {
    let yard = Yard::new().await;
    let worker = yard.worker_with(&[("FOURMI_SLOTS", "4")]);
    let polite = yard.push(&yard.hold(true)).await;
    let in_child = yard.push(&HoldInChild(yard.hold(true))).await;
    let rude = yard.push(&yard.hold(false)).await;
    let hanging = yard.push(&yard.misbehave(Misdeed::Hang)).await;
    eventually("all run", || yard.lines("journal").len() == 3 && yard.lines("processes").len() == 2);
    for id in [&polite, &in_child, &rude, &hanging] {
        assert_eq!(yard.queues.cancel(id).await.unwrap(), Cancelled::Requested);
    }
    for id in [&polite, &in_child, &rude, &hanging] {
        assert_eq!(yard.end(id).await.state, State::Cancelled);
    }
    // A child that does not stop is killed with everything that it has started.
    yard.nothing_lives();
    yard.scratch_is_empty();
    drop(worker);
}

#[tokio::test]
async fn a_run_that_takes_too_long_is_stopped() {
    let yard = Yard::new().await;
    let _worker = yard.worker();
    for submission in [
        Submission::new(Hold::NAME.parse().unwrap(), serde_json::value::to_raw_value(&yard.hold(false)).unwrap()),
        Submission::new(
            Misbehave::NAME.parse().unwrap(),
            serde_json::value::to_raw_value(&yard.misbehave(Misdeed::Hang)).unwrap(),
        ),
    ] {
        let mut submission = submission;
        submission.envelope.policy.timeout_ms = Some(300);
        submission.envelope.policy.attempts = Some(1);
        let id = yard.queues.push(JobId::new(queue()), submission).await.unwrap().unwrap().id;
        let job = yard.end(&id).await;
        assert_eq!((job.state, job.error.unwrap().code.as_str()), (State::Failed, "timeout"));
    }
    yard.nothing_lives();
}

#[tokio::test]
async fn what_kills_a_child_is_recorded_and_kills_nothing_else() {
    let yard = Yard::new().await;
    let worker = yard.worker();
    for (how, code, text) in [
        (Misdeed::Abort, "process_died", "SIGABRT"),
        (Misdeed::EatSlowly, "out_of_memory", "memory"),
        (Misdeed::EatAtOnce, "out_of_memory", "memory"),
        (Misdeed::EatByProgram, "out_of_memory", "memory"),
        (Misdeed::Exit, "process_died", "status 0"),
    ] {
        let id = yard.push(&yard.misbehave(how)).await;
        let job = yard.end(&id).await;
        assert_eq!((job.state, job.attempts, job.crashes), (State::Failed, 0, 3), "{how:?}");
        assert_eq!(job.error.unwrap().code, "crashed", "{how:?}");
        let runs = yard.queues.runs(&id).await.unwrap();
        assert_eq!(runs.len(), 3);
        for run in runs {
            assert_eq!(run.error.code, code, "{how:?}");
            assert!(run.error.message.contains(text), "{how:?}: {}", run.error.message);
        }
    }
    let panicked = yard.push(&yard.misbehave(Misdeed::Panic)).await;
    let error = yard.end(&panicked).await.error.unwrap();
    assert_eq!(error.code, "panic");
    assert!(error.cause.unwrap().contains("as it was told"));
    let talkative = yard.push(&yard.misbehave(Misdeed::PrintNonsense)).await;
    assert_eq!(yard.end(&talkative).await.result, Some(json!("heard")));
    yard.nothing_lives();
    yard.scratch_is_empty();
    drop(worker);
}

#[tokio::test]
async fn a_killed_child_is_a_crash_and_its_job_runs_again() {
    let yard = Yard::new().await;
    let _worker = yard.worker();
    let id = yard.push(&HoldInChild(yard.hold(true))).await;
    yard.journal_says("1 started");
    let child = yard.lines("journal")[0].split(' ').nth(2).unwrap().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child), Signal::SIGKILL).unwrap();
    yard.journal_says("2 started");
    yard.open_gate();
    let job = yard.end(&id).await;
    assert_eq!((job.state, job.run, job.attempts, job.crashes), (State::Succeeded, 2, 1, 1));
    let runs = yard.queues.runs(&id).await.unwrap();
    assert!(runs[0].error.message.contains("SIGKILL"), "{}", runs[0].error.message);
}

#[tokio::test]
async fn a_child_has_no_secrets_and_no_connection_of_its_parent() {
    let yard = Yard::new().await;
    let worker = yard.worker();
    let id = yard.push(&yard.misbehave(Misdeed::Behave)).await;
    let seen = yard.end(&id).await.result.unwrap();
    assert_eq!(seen["environment"], json!(["MALLOC_ARENA_MAX"]));
    let of_parent = descriptors(worker.pid());
    assert!(of_parent.iter().any(|it| it.starts_with("socket:")), "the parent talks to Redis");
    let shared =
        seen["descriptors"].as_array().unwrap().iter().filter(|it| of_parent.iter().any(|other| **it == **other));
    let sockets: Vec<_> = shared.filter(|it| it.as_str().unwrap().starts_with("socket:")).collect();
    assert!(sockets.is_empty(), "{sockets:?}");
}

#[tokio::test]
async fn a_drained_worker_lets_jobs_end() {
    let yard = Yard::new().await;
    let mut worker = yard.worker();
    let running = yard.push(&yard.hold(true)).await;
    yard.journal_says("1 started");
    worker.signal(Signal::SIGTERM);
    worker.wait_for_line("draining");
    let waiting = yard.push(&Echo { value: json!(1) }).await;
    yard.open_gate();
    assert!(worker.wait().success());
    assert_eq!(yard.end(&running).await.state, State::Succeeded);
    assert_eq!(yard.queues.get(&waiting).await.unwrap().unwrap().state, State::Waiting);
}

#[tokio::test]
async fn what_outlasts_the_grace_time_goes_back_without_losing_an_attempt() {
    let yard = Yard::new().await;
    let mut worker = yard.worker_with(&[("FOURMI_DRAIN_SECONDS", "0"), ("FOURMI_SLOTS", "3")]);
    let jobs = [
        yard.push(&yard.hold(true)).await,
        yard.push(&HoldInChild(yard.hold(true))).await,
        yard.push(&yard.misbehave(Misdeed::Hang)).await,
    ];
    eventually("all run", || yard.lines("journal").len() == 2 && yard.lines("processes").len() == 2);
    worker.signal(Signal::SIGTERM);
    assert!(worker.wait().success());
    for id in &jobs {
        let job = yard.queues.get(id).await.unwrap().unwrap();
        assert_eq!((job.state, job.run, job.attempts), (State::Waiting, 1, 0));
        assert!(yard.queues.runs(id).await.unwrap().is_empty());
    }
    yard.nothing_lives();
}

#[tokio::test]
async fn a_job_of_an_unknown_kind_or_a_newer_schema_waits_for_a_worker_that_knows_it() {
    let yard = Yard::new().await;
    let worker = yard.worker();
    let payload = || serde_json::value::to_raw_value(&json!({"value": 1})).unwrap();
    let unknown = Submission::new("test.of_tomorrow".parse().unwrap(), payload());
    let mut newer = Submission::new(Echo::NAME.parse().unwrap(), payload());
    newer.envelope.schema_version = 2;
    for (submission, code) in [(unknown, "unknown_kind"), (newer, "unknown_schema_version")] {
        let id = yard.queues.push(JobId::new(queue()), submission).await.unwrap().unwrap().id;
        let job = yard.until(&id, |job| job.state == State::Scheduled && job.run > 0).await;
        // Who looks sees why it does not start; nothing of it counts as a failure.
        assert_eq!((job.attempts, job.error.unwrap().code.as_str()), (0, code));
        assert!(yard.queues.runs(&id).await.unwrap().is_empty());
    }
    worker.wait_for_line("does not know the kind");
}

#[tokio::test]
async fn an_old_worker_beside_a_new_one_loses_no_job_of_a_new_kind() {
    let yard = Yard::new().await;
    let _old = yard.worker_with(&[("TEST_WORKER_IS_OLD", "1")]);
    let id = yard.push(&Echo { value: json!("tomorrow") }).await;
    yard.until(&id, |job| job.state == State::Scheduled && job.run > 0).await;
    let _new = yard.worker();
    loop {
        let job = yard.until(&id, |job| job.state == State::Scheduled || job.state.is_final()).await;
        if job.state.is_final() {
            // However often the old one had it, that was no attempt.
            assert_eq!((job.state, job.attempts, job.error), (State::Succeeded, 1, None));
            return;
        }
        yard.queues.retry(&id).await.unwrap(); // Ends the delay.
    }
}

#[tokio::test]
async fn an_old_worker_beside_a_new_one_runs_only_the_versions_that_it_knows() {
    let yard = Yard::new().await;
    let _old = yard.worker_with(&[("TEST_WORKER_IS_OLD", "1")]);
    let first = yard.push(&GreetOne { name: "Ada".into() }).await;
    assert_eq!(yard.end(&first).await.result, Some(json!("old: Ada")));
    let of_tomorrow = yard.push(&Greet { names: vec!["Ada".into(), "Alan".into()] }).await;
    yard.until(&of_tomorrow, |job| job.state == State::Scheduled && job.run > 0).await;

    let _new = yard.worker();
    let mut jobs = vec![(of_tomorrow, false)];
    for n in 0..100 {
        jobs.push((yard.push(&GreetOne { name: n.to_string() }).await, true));
        jobs.push((yard.push(&Greet { names: vec![n.to_string()] }).await, false));
    }
    for (id, for_both) in jobs {
        let job = loop {
            let job = yard.until(&id, |job| job.state == State::Scheduled || job.state.is_final()).await;
            if job.state.is_final() {
                break job;
            }
            yard.queues.retry(&id).await.unwrap(); // Ends the delay.
        };
        assert_eq!((job.state, job.attempts, job.error), (State::Succeeded, 1, None));
        let by = job.result.unwrap().as_str().unwrap().to_owned();
        assert!(by.starts_with("new: ") || for_both, "{by}");
        // The new worker reads both versions, so no job of the first goes back.
        assert!(job.run == 1 || !for_both);
    }
}

#[tokio::test]
async fn a_long_job_never_sits_behind_another_in_a_busy_worker() {
    let yard = Yard::new().await;
    let one_slot = [("FOURMI_SLOTS", "1")];
    let _first = yard.worker_with(&one_slot);
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(yard.push(&yard.hold(true)).await);
    }
    yard.journal_says("1 started");
    let _second = yard.worker_with(&one_slot);
    let started = || yard.lines("journal").iter().filter(|line| line.starts_with("1 started")).count();
    eventually("the second worker has the second job", || started() == 2);
    // Nobody has a slot for the third, so nobody has fetched it.
    assert_eq!(yard.queues.get(&ids[2]).await.unwrap().unwrap().state, State::Waiting);
    yard.open_gate();
    for id in &ids {
        assert_eq!(yard.end(id).await.run, 1);
    }
}

#[tokio::test]
async fn progress_never_goes_back_and_the_last_is_kept() {
    let yard = Yard::new().await;
    let _worker = yard.worker();
    let id = yard.push(&Steps { gate: Some(yard.file("gate")) }).await;
    let (_, mut watch) = yard.watcher.watch(&id).await.unwrap().unwrap();
    let mut seen = Vec::new();
    let end = loop {
        let update = tokio::time::timeout(Duration::from_secs(60), watch.next());
        match update.await.expect("more in time").expect("more to come") {
            Update::Progress { progress, .. } => {
                assert_eq!(progress.stage, "step");
                seen.push(progress.percent);
                if progress.percent >= 50.0 {
                    yard.open_gate();
                }
            }
            Update::Log { .. } => panic!("it logs nothing"),
            Update::State(job) if job.state.is_final() => break job,
            Update::State(job) => seen.extend(job.progress.map(|progress| progress.percent)),
        }
        if seen.last() == Some(&50.0) {
            yard.open_gate();
        }
    };
    assert!(seen.is_sorted() && seen.contains(&50.0), "{seen:?}");
    assert_eq!(end.progress.unwrap().percent, 100.0);
}

#[tokio::test]
async fn lines_of_a_log_come_in_order_and_before_the_end_wherever_a_job_runs() {
    let yard = Yard::new().await;
    let _worker = yard.worker_with(&[("FOURMI_SLOTS", "2")]);
    let talk = |gate: &str| Talk { lines: 50, gate: Some(yard.file(gate)) };
    let here = yard.push(&talk("here")).await;
    let in_child = yard.push(&TalkInChild(talk("child"))).await;
    for (id, gate) in [(here, "here"), (in_child, "child")] {
        let (_, mut watch) = yard.watcher.watch(&id).await.unwrap().unwrap();
        watch.log_after(0);
        let (mut lines, mut end) = (Vec::new(), None);
        while let Some(update) = tokio::time::timeout(Duration::from_secs(60), watch.next()).await.expect("in time") {
            match update {
                Update::Log { line, missed: 0 } => {
                    // Lines arrive while the job runs.
                    if line.n == 50 {
                        std::fs::write(yard.file(gate), "").unwrap();
                    }
                    lines.push(line);
                }
                Update::State(job) => end = job.state.is_final().then_some((job.state, job.log_lines, lines.len())),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(end, Some((State::Succeeded, 51, 51)), "the last word comes before the end");
        for (n, line) in (1..).zip(&lines[..50]) {
            assert_eq!((line.n, line.run, line.level), (n, 1, LogLevel::Info));
            assert_eq!(line.text, format!("line {n}"));
        }
        assert_eq!((lines[50].text.as_str(), lines[50].level), ("the last word", LogLevel::Warn));
    }
}

#[tokio::test]
async fn a_run_away_handler_does_not_flood_the_log_and_what_is_missing_is_counted() {
    let yard = Yard::new().await;
    let _worker = yard.worker();
    let flood = || Talk { lines: 20_000, gate: None };
    for id in [yard.push(&flood()).await, yard.push(&TalkInChild(flood())).await] {
        let job = yard.end(&id).await;
        assert!(job.state == State::Succeeded && job.log_lines < 2_000, "{} lines", job.log_lines);
        let page = yard.queues.log(&id, 0, 1_000).await.unwrap().unwrap();
        let left_out = page.lines.iter().filter_map(|line| line.text.split_once(" lines were left out"));
        let counts: Vec<u64> = left_out.map(|(count, _)| count.parse().unwrap()).collect();
        assert!(!counts.is_empty());
        if page.missed == 0 {
            let said = (page.lines.len() - counts.len()) as u64;
            assert_eq!(said + counts.iter().sum::<u64>(), 20_001);
        }
    }
}

#[tokio::test]
async fn a_waiting_worker_is_woken_by_a_push() {
    let yard = Yard::new().await;
    let _worker = yard.worker();
    // Far sooner than the slow poll (2 s): the median of several starts.
    let mut waits = Vec::new();
    for _ in 0..9 {
        let id = yard.push(&Echo { value: json!(1) }).await;
        let job = yard.end(&id).await;
        waits.push(job.started_at.unwrap().duration_since(job.created_at).as_millis());
    }
    waits.sort_unstable();
    assert!(waits[4] < 500, "{waits:?}");
}

#[tokio::test]
async fn the_folder_of_a_dead_worker_is_removed_by_the_next() {
    let yard = Yard::new().await;
    let mut first = yard.worker();
    yard.push(&yard.misbehave(Misdeed::Hang)).await;
    eventually("it runs", || yard.lines("processes").len() == 2);
    first.kill();
    let folders = || std::fs::read_dir(yard.data.path().join("scratch")).unwrap().count();
    assert_eq!(folders(), 1);
    let second = yard.worker();
    eventually_async("only the living worker's folder is there", async || (folders() == 1).then_some(())).await;
    drop(second);
}
