//! What is accepted, refused and answered once.

use std::{collections::HashSet, time::Duration};

use fourmi_model::{Block, JobId, ParentOutcome, ParkReason, Priority, State, Submission, Unique, UniqueUntil};
use fourmi_queue::{
    ActionStep, Cancelled, JobAction, JobFilter, Outcome, Pushed, QueueError, Refusal, Retried, Unparked,
};

use crate::bench::{Bench, HOUR, keyed, submission, succeeded};

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

async fn a_push_says_what_redis_holds(bench: Bench) {
    let in_an_hour = jiff::Timestamp::now() + HOUR;
    let mut rich = keyed("k", r#"{"a":[1,{"b":null}]}"#);
    rich.priority = Priority::Urgent;
    rich.tenant = Some("acme".parse().unwrap());
    rich.limits = vec!["host/b".parse().unwrap(), "host/a".parse().unwrap(), "host/b".parse().unwrap()];
    rich.unique = Some(Unique { until: UniqueUntil::Finished, by: Vec::new() });
    rich.envelope.tags = vec!["night".into()];
    rich.envelope.correlation_id = Some("c".into());
    rich.envelope.deadline = Some(in_an_hour);
    rich.envelope.submitted_by = Some("key-1".into());
    let (mut later, mut past, mut both) = (submission(), submission(), submission());
    // Finer than Redis counts.
    later.not_before = Some(in_an_hour + Duration::from_nanos(1_234_567));
    past.not_before = Some(jiff::Timestamp::UNIX_EPOCH);
    let parent = bench.push_plain().await;
    both.not_before = later.not_before;
    both.envelope.after = vec![parent.clone()];
    let mut met = submission();
    met.envelope.after = vec![bench.new_id()];
    let over = ParentOutcome { state: State::Succeeded, result: None, error: None, left_out: false };
    met.known_parents = vec![(met.envelope.after[0].clone(), over)];
    let (mut parked, mut tied) = (later.clone(), both.clone());
    parked.parked = Some(ParkReason::Offline);
    tied.parked = Some(ParkReason::Offline);
    let jobs: Vec<_> = [submission(), rich, later, past, both, met, parked, tied]
        .into_iter()
        .map(|job| (bench.new_id(), job))
        .collect();
    for (id, job) in &jobs[..2] {
        let pushed = bench.queues.push(id.clone(), job.clone()).await.unwrap().unwrap();
        assert_eq!(pushed.job(job).unwrap(), bench.job(id).await);
    }
    let pushed = bench.queues.push_many(&bench.name, &jobs).await.unwrap();
    for (place, ((id, job), pushed)) in jobs.iter().zip(pushed).enumerate() {
        let pushed = pushed.unwrap();
        assert_eq!(pushed.existing(), place < 2);
        if !pushed.existing() {
            assert_eq!(pushed.job(job).unwrap(), bench.job(id).await, "job {place}");
        }
    }
    let states: Vec<State> = futures_util::future::join_all(jobs.iter().map(|(id, _)| bench.state(id))).await;
    use State::{Blocked, Parked, Scheduled, Waiting};
    assert_eq!(states, [Waiting, Waiting, Scheduled, Waiting, Blocked, Waiting, Parked, Blocked]);
}

/// A job whose mail server, say, is not set up.
fn parked() -> Submission {
    Submission { parked: Some(ParkReason::NotConfigured), ..submission() }
}

async fn a_job_that_is_born_parked_waits_until_it_is_released(bench: Bench) {
    // One that is due long ago, one of a tenant whose lane takes turns, one with nothing to say of it.
    let due = Submission { not_before: Some(jiff::Timestamp::UNIX_EPOCH), ..parked() };
    let steered = Submission { tenant: Some("acme".parse().unwrap()), priority: Priority::Low, ..parked() };
    let offline = Submission { parked: Some(ParkReason::Offline), ..submission() };
    let jobs: Vec<_> = [due, steered, parked(), offline].into_iter().map(|job| (bench.new_id(), job)).collect();
    let pushed = bench.queues.push_many(&bench.name, &jobs).await.unwrap();
    assert!(pushed.iter().all(|answer| answer.as_ref().is_ok_and(|pushed| !pushed.existing())));
    let ids: Vec<&JobId> = jobs.iter().map(|(id, _)| id).collect();
    assert_eq!((bench.fetch(10).await.len(), bench.transitions.promote(10).await.unwrap()), (0, 0));
    let counted = bench.queues.parked(&bench.name).await.unwrap();
    assert_eq!(counted, [(ParkReason::NotConfigured, 3), (ParkReason::Offline, 1)].into());
    assert_eq!((bench.count(State::Parked).await, bench.count(State::Waiting).await), (4, 0));
    let filter = JobFilter { parked_reason: Some(ParkReason::NotConfigured), ..JobFilter::default() };
    let page = bench.queues.list(&bench.name, &filter, None, 10).await.unwrap();
    let mut listed: Vec<&JobId> = page.jobs.iter().map(|job| &job.id).collect();
    listed.sort();
    assert_eq!(listed, ids[..3]);
    let why = bench.queues.why(ids[0]).await.unwrap().unwrap();
    assert!(
        matches!(&why.blocks[0], Block::Parked { parked_reason: ParkReason::NotConfigured, released_by } if !released_by.is_empty()),
        "{why:?}"
    );

    let released = bench.queues.unpark(&bench.name, ParkReason::NotConfigured, None).await.unwrap();
    assert_eq!(released, Unparked { released: 3, next: None });
    let mut started = bench.fetch(10).await;
    started.sort_by(|(one, _), (other, _)| one.cmp(other));
    assert_eq!(started.iter().map(|(id, _)| id).collect::<Vec<_>>(), ids[..3]);
    let job = bench.job(ids[1]).await;
    assert_eq!((job.run, job.attempts, job.parked_reason, job.priority), (1, 1, None, Priority::Low));
    assert_eq!(bench.state(ids[3]).await, State::Parked);
    for (_, run) in started {
        assert!(bench.settle(run, succeeded()).await);
    }
}

async fn a_job_that_is_born_parked_is_steered_as_others_are(bench: Bench) {
    let [retried, cancelled, acted] =
        [bench.push(parked()).await, bench.push(parked()).await, bench.push(parked()).await];
    assert_eq!(bench.queues.retry(&retried).await.unwrap(), Retried::Waiting);
    assert_eq!(bench.fetch_one().await.0, retried);
    assert_eq!(bench.queues.cancel(&cancelled).await.unwrap(), Cancelled::Now);
    let only = JobFilter { parked_reason: Some(ParkReason::NotConfigured), ..JobFilter::default() };
    let step = bench.queues.act(&bench.name, JobAction::Cancel, &only, false, None).await.unwrap();
    assert_eq!(step, ActionStep { matched: 1, done: 1, ..ActionStep::default() });
    assert_eq!((bench.state(&cancelled).await, bench.state(&acted).await), (State::Cancelled, State::Cancelled));
    assert!(bench.queues.parked(&bench.name).await.unwrap().is_empty());
    // Its deadline holds also while it is parked.
    let mut late = parked();
    late.envelope.deadline = Some(jiff::Timestamp::UNIX_EPOCH);
    let late = bench.push(late).await;
    assert_eq!(bench.transitions.expire(10).await.unwrap(), 1);
    assert_eq!((bench.state(&late).await, bench.count(State::Parked).await), (State::Failed, 0));
    assert_eq!(bench.queues.retry(&late).await.unwrap(), Retried::Waiting);
    assert_eq!(bench.fetch_one().await.0, late);
}

async fn a_job_that_is_born_parked_is_accepted_once(bench: Bench) {
    let named = |key: &str, json: &str| Submission { parked: Some(ParkReason::Offline), ..keyed(key, json) };
    let first = bench.push(named("k", "{}")).await;
    let again = bench.queues.push(bench.new_id(), named("k", "{}")).await.unwrap().unwrap();
    assert_eq!(again, Pushed { id: first.clone(), accepted_at: None, is_like: false });
    let other = bench.queues.push(bench.new_id(), named("k", r#"{"a":1}"#)).await.unwrap();
    assert_eq!(other, Err(Refusal::IdempotencyConflict(first.clone())));
    assert!(bench.queues.push(first, parked()).await.unwrap().unwrap().existing());

    let unique = Some(Unique { until: UniqueUntil::Started, by: Vec::new() });
    let only = bench.push(Submission { unique: unique.clone(), ..parked() }).await;
    let like = Submission { unique, ..submission() };
    let second = bench.queues.push(bench.new_id(), like.clone()).await.unwrap().unwrap();
    assert_eq!(second, Pushed { id: only.clone(), accepted_at: None, is_like: true });
    bench.queues.unpark(&bench.name, ParkReason::NotConfigured, None).await.unwrap();
    assert_eq!(bench.fetch_one().await.0, only);
    assert!(!bench.queues.push(bench.new_id(), like).await.unwrap().unwrap().existing(), "it has started");
}

async fn a_queue_at_its_limit_does_not_count_parked_jobs(bench: Bench) {
    let _: u64 = bench.redis.ask(redis::cmd("HSET").arg(bench.key("m")).arg("limit").arg(1));
    let jobs = [parked(), submission(), parked()].map(|job| (bench.new_id(), job));
    let answers = bench.queues.push_many(&bench.name, &jobs).await.unwrap();
    assert!(answers[0].is_ok() && answers[1].is_ok());
    assert!(matches!(answers[2], Err(Refusal::QueueFull { .. })), "it is full");
}

async fn pushing_the_same_id_twice_is_safe(bench: Bench) {
    let id = bench.new_id();
    let first = bench.queues.push(id.clone(), submission()).await.unwrap().unwrap();
    let second = bench.queues.push(id, submission()).await.unwrap().unwrap();
    assert_eq!((first.existing(), second.existing()), (false, true));
    assert_eq!(bench.fetch(10).await.len(), 1);
}

async fn the_same_key_and_payload_give_the_same_job(bench: Bench) {
    let first = bench.push(keyed("k", r#"{"a":1}"#)).await;
    let again = bench.queues.push(bench.new_id(), keyed("k", r#"{"a":1}"#)).await.unwrap().unwrap();
    assert_eq!(again, Pushed { id: first.clone(), accepted_at: None, is_like: false });
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
    assert!(!second.existing() && second.id != first);
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
            assert_eq!(again, Pushed { id: first.clone(), accepted_at: None, is_like: false });
            // Its time is over.
            let () = bench.redis.ask(redis::cmd("PEXPIRE").arg(key).arg(0));
            let second = bench.queues.push(bench.new_id(), short.clone()).await.unwrap().unwrap();
            assert!(!second.existing() && second.id != first);
        }
    }
}

async fn a_queue_at_its_limit_refuses_more_until_a_job_has_started(bench: Bench) {
    let _: u64 = bench.redis.ask(redis::cmd("HSET").arg(bench.key("m")).arg("limit").arg(2));
    let jobs: Vec<_> = (0..3).map(|_| (bench.new_id(), submission())).collect();
    let answers = bench.queues.push_many(&bench.name, &jobs).await.unwrap();
    assert!(answers[0].is_ok() && answers[1].is_ok());
    assert!(matches!(answers[2], Err(Refusal::QueueFull { retry_after }) if !retry_after.is_zero()));
    // What was accepted before is answered as before.
    assert!(bench.queues.push(jobs[0].0.clone(), submission()).await.unwrap().unwrap().existing());
    bench.fetch_one().await;
    bench.push_plain().await;
}

async fn keys_of_another_layout_are_not_touched(bench: Bench) {
    let () = bench.redis.ask(redis::cmd("HSET").arg(bench.key("m")).arg("layout").arg(99));
    let queues = bench.redis.connect().await.unwrap();
    let error = queues.push(bench.new_id(), submission()).await.unwrap_err();
    assert!(matches!(&error, QueueError::Unsuitable(text) if text.contains("99")), "{error}");
}

promises! {
    a_push_says_what_redis_holds,
    a_job_that_is_born_parked_waits_until_it_is_released,
    a_job_that_is_born_parked_is_steered_as_others_are,
    a_job_that_is_born_parked_is_accepted_once,
    a_queue_at_its_limit_does_not_count_parked_jobs,
    concurrent_pushes_are_all_accepted_once,
    ten_thousand_jobs_in_one_call_get_an_answer_each,
    pushing_the_same_id_twice_is_safe,
    the_same_key_and_payload_give_the_same_job,
    a_key_is_free_again_when_its_job_is_forgotten,
    a_key_lives_as_long_as_it_was_told_to,
    a_queue_at_its_limit_refuses_more_until_a_job_has_started,
    keys_of_another_layout_are_not_touched,
}
