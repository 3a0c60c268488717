//! What is accepted, refused and answered once.

use std::{collections::HashSet, time::Duration};

use fourmi_model::{JobId, ParentOutcome, Priority, State, Unique, UniqueUntil};
use fourmi_queue::{Outcome, Pushed, QueueError, Refusal};

use crate::bench::{Bench, HOUR, keyed, submission};

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
    let jobs: Vec<_> =
        [submission(), rich, later, past, both, met].into_iter().map(|job| (bench.new_id(), job)).collect();
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
    use State::{Blocked, Scheduled, Waiting};
    assert_eq!(states, [Waiting, Waiting, Scheduled, Waiting, Blocked, Waiting]);
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
    concurrent_pushes_are_all_accepted_once,
    ten_thousand_jobs_in_one_call_get_an_answer_each,
    pushing_the_same_id_twice_is_safe,
    the_same_key_and_payload_give_the_same_job,
    a_key_is_free_again_when_its_job_is_forgotten,
    a_key_lives_as_long_as_it_was_told_to,
    a_queue_at_its_limit_refuses_more_until_a_job_has_started,
    keys_of_another_layout_are_not_touched,
}
