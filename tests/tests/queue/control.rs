//! Steering a queue: pause, cap, limit, promoting, priorities, obliterating.

use std::time::Duration;

use fourmi_model::{JobId, ParkReason, Priority, State, Submission};
use fourmi_queue::{ActionStep, Control, ControlChange, JobFilter, Obliterated, Outcome, Prioritized, Refusal};
use jiff::Timestamp;

use crate::bench::{Bench, LEASE, retrying, submission, succeeded};

const HOUR: Duration = Duration::from_secs(3_600);

async fn delayed(bench: &Bench, tag: Option<&str>) -> JobId {
    let mut submission = submission();
    submission.not_before = Some(Timestamp::now() + HOUR);
    submission.envelope.tags = tag.into_iter().map(str::to_owned).collect();
    bench.push(submission).await
}

#[tokio::test]
async fn what_steers_a_queue_is_set_and_taken_away_together() {
    let bench = Bench::new().await;
    let (queues, name) = (&bench.queues, &bench.name);
    assert_eq!(queues.control(name).await.unwrap(), Control::default());
    let change = ControlChange {
        paused: Some(true),
        cap: Some(Some(3)),
        slots: Some(Some(8)),
        processes: Some(Some(3)),
        limit: Some(Some(1_000)),
    };
    queues.set_control(name, &change).await.unwrap();
    let all = Control { paused: true, cap: Some(3), slots: Some(8), processes: Some(3), limit: Some(1_000) };
    assert_eq!(queues.control(name).await.unwrap(), all);
    queues.resume(name).await.unwrap();
    queues.set_cap(name, None).await.unwrap();
    assert_eq!(queues.control(name).await.unwrap(), Control { paused: false, cap: None, ..all });
    queues.set_slots(name, None).await.unwrap();
    queues.set_backlog_limit(name, None).await.unwrap();
    let change = ControlChange { processes: Some(None), ..ControlChange::default() };
    queues.set_control(name, &change).await.unwrap();
    assert_eq!(queues.control(name).await.unwrap(), Control::default());
}

#[tokio::test]
async fn a_paused_queue_hands_out_nothing_and_a_full_one_takes_nothing() {
    let bench = Bench::new().await;
    bench.queues.set_backlog_limit(&bench.name, Some(1)).await.unwrap();
    let id = bench.push_plain().await;
    let refused = bench.queues.push(bench.new_id(), submission()).await.unwrap();
    assert!(matches!(refused, Err(Refusal::QueueFull { .. })), "{refused:?}");
    bench.queues.pause(&bench.name).await.unwrap();
    assert!(bench.fetch(1).await.is_empty());
    bench.queues.resume(&bench.name).await.unwrap();
    let (fetched, run) = bench.fetch_one().await;
    assert_eq!(fetched, id);
    // What runs goes on while its queue is paused.
    bench.queues.pause(&bench.name).await.unwrap();
    assert!(bench.settle(run, succeeded()).await);
}

#[tokio::test]
async fn the_cap_is_exact_under_concurrent_fetchers() {
    let bench = Bench::new().await;
    let jobs: Vec<_> = (0..400).map(|_| (bench.new_id(), submission())).collect();
    bench.queues.push_many(&bench.name, &jobs).await.unwrap();
    bench.queues.set_cap(&bench.name, Some(5)).await.unwrap();
    let fetchers = (0..4).map(|fetcher| {
        let (transitions, queues, name) = (bench.transitions.clone(), bench.queues.clone(), bench.name.clone());
        async move {
            let mut done = 0;
            while queues.counts(&name).await.unwrap().0[&State::Waiting] > 0 {
                let fetched = transitions.fetch(&format!("w{fetcher}"), 3, LEASE, false).await.unwrap();
                let running = queues.counts(&name).await.unwrap().0[&State::Running];
                assert!(running <= 5, "{running} run");
                let settlements: Vec<_> = fetched
                    .claims
                    .iter()
                    .map(|claim| fourmi_queue::Settlement { run: claim.key(), outcome: succeeded() })
                    .collect();
                done += settlements.len();
                transitions.settle(&settlements).await.unwrap();
            }
            done
        }
    });
    let done: Vec<usize> = futures_util::future::join_all(fetchers).await;
    assert_eq!(done.iter().sum::<usize>(), 400);
    // A lower one takes nothing away from what runs, and is in force at once.
    bench.push_plain().await;
    bench.push_plain().await;
    bench.fetch_one().await;
    bench.queues.set_cap(&bench.name, Some(1)).await.unwrap();
    assert!(bench.fetch(1).await.is_empty());
    bench.queues.set_cap(&bench.name, Some(2)).await.unwrap();
    assert_eq!(bench.fetch(9).await.len(), 1);
}

#[tokio::test]
async fn delayed_jobs_are_promoted_by_name_and_by_filter_each_once() {
    let bench = Bench::new().await;
    let (one, other) = (delayed(&bench, None).await, delayed(&bench, Some("red")).await);
    let waiting = bench.push_plain().await;
    let step = |matched, done| ActionStep { matched, done, ..ActionStep::default() };
    let ids = [one.clone(), waiting.clone(), bench.new_id(), one.clone()];
    let named = async |count_only| bench.queues.promote_jobs(&bench.name, &ids, count_only).await.unwrap();
    assert_eq!(named(true).await, step(1, 0));
    assert_eq!(named(false).await, step(1, 1));
    assert_eq!((bench.state(&one).await, bench.state(&other).await), (State::Waiting, State::Scheduled));

    for _ in 0..2 {
        let (_, run) = bench.fetch_one().await;
        bench.settle(run, retrying(HOUR)).await;
    }
    let red = JobFilter { tag: Some("red".to_owned()), ..JobFilter::default() };
    let filtered = async |filter: &JobFilter, count_only| {
        bench.queues.promote_step(&bench.name, filter, count_only, None).await.unwrap()
    };
    assert_eq!(filtered(&red, false).await, step(1, 1));
    assert_eq!(filtered(&JobFilter::default(), true).await, step(2, 0));
    assert_eq!(filtered(&JobFilter::default(), false).await, step(2, 2));
    assert_eq!(bench.count(State::Waiting).await, 3);
    assert!(bench.queues.promote_step(&bench.name, &red, true, Some("nonsense")).await.is_err());
}

#[tokio::test]
async fn promoting_everything_ends_although_what_is_promoted_comes_back() {
    let bench = Bench::new().await;
    for _ in 0..1_200 {
        delayed(&bench, None).await;
    }
    let (mut cursor, mut done) = (None, 0);
    loop {
        let all = JobFilter::default();
        let step = bench.queues.promote_step(&bench.name, &all, false, cursor.as_deref()).await.unwrap();
        done += step.done;
        // Each runs at once and is to be tried again, behind all others.
        for (_, run) in bench.fetch(1_000).await {
            bench.settle(run, retrying(2 * HOUR)).await;
        }
        cursor = step.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!((done, bench.count(State::Retrying).await), (1_200, 1_200));
}

#[tokio::test]
async fn a_job_that_has_not_started_gets_another_priority() {
    let bench = Bench::new().await;
    let first = bench.push_plain().await;
    let later = delayed(&bench, None).await;
    let raised = bench.push_plain().await;
    let change = async |id: &JobId, priority| {
        bench.queues.set_priority(&bench.name, std::slice::from_ref(id), priority).await.unwrap()[0]
    };
    assert_eq!(change(&raised, Priority::Urgent).await, Prioritized::Changed);
    assert_eq!(change(&raised, Priority::Urgent).await, Prioritized::Changed);
    assert_eq!(change(&later, Priority::Low).await, Prioritized::Changed);
    assert_eq!(change(&bench.new_id(), Priority::Low).await, Prioritized::Unknown);
    assert_eq!((bench.job(&raised).await.priority, bench.job(&raised).await.version), (Priority::Urgent, 2));
    assert_eq!((bench.job(&later).await.priority, bench.state(&later).await), (Priority::Low, State::Scheduled));

    let (fetched, run) = bench.fetch_one().await;
    assert_eq!(fetched, raised);
    assert_eq!(change(&raised, Priority::Low).await, Prioritized::NotPossible(State::Running));
    bench.settle(run, succeeded()).await;
    // The place that it has left is no second one.
    assert_eq!(bench.fetch(9).await.into_iter().map(|(id, _)| id).collect::<Vec<_>>(), [first]);
    assert!(bench.fetch(9).await.is_empty());
    assert_eq!(bench.count(State::Waiting).await, 0);
}

#[tokio::test]
async fn a_lowered_job_is_not_fetched_in_its_old_place() {
    let bench = Bench::new().await;
    let lowered = bench.push_plain().await;
    let other = bench.push_plain().await;
    bench.queues.set_priority(&bench.name, std::slice::from_ref(&lowered), Priority::Low).await.unwrap();
    let order: Vec<JobId> = [bench.fetch_one().await.0, bench.fetch_one().await.0].into();
    assert_eq!(order, [other, lowered]);
    assert!(bench.fetch(9).await.is_empty());
}

#[tokio::test]
async fn a_queue_is_obliterated_only_when_told_twice() {
    obliterating_takes_two_words_and_leaves_other_queues_alone(Bench::new().await).await;
}

/// On any Redis.
pub(crate) async fn obliterating_takes_two_words_and_leaves_other_queues_alone(bench: Bench) {
    let other = Bench::on(bench.redis.clone(), "other").await;
    let kept = other.push_plain().await;
    for _ in 0..1_500 {
        bench.push_plain().await;
    }
    delayed(&bench, None).await;
    bench.push(Submission { parked: Some(ParkReason::Offline), ..submission() }).await;
    bench.queues.set_cap(&bench.name, Some(1)).await.unwrap();
    let (id, run) = bench.fetch_one().await;
    let obliterate = async |token: &str, force| bench.queues.obliterate(&bench.name, token, force).await.unwrap();
    assert_eq!(obliterate("", true).await, Obliterated::Unasked);
    let offer = bench.queues.offer_to_obliterate(&bench.name).await.unwrap();
    assert_eq!((offer.counts.0[&State::Waiting], offer.counts.0[&State::Scheduled]), (1_499, 1));
    assert_eq!(obliterate("wrong", true).await, Obliterated::Unasked);
    assert_eq!(obliterate(&offer.token, false).await, Obliterated::Running);
    assert_eq!(bench.state(&id).await, State::Running);

    assert!(matches!(obliterate(&offer.token, true).await, Obliterated::Done(keys) if keys > 3_000));
    let keys: Vec<String> = bench.redis.ask(
        redis::cmd("EVAL").arg("return redis.call('KEYS', ARGV[1])").arg(1).arg(bench.key("m")).arg(bench.key("*")),
    );
    assert_eq!(keys, [bench.key("m")]);
    let fields: Vec<String> = bench.redis.ask(redis::cmd("HKEYS").arg(bench.key("m")));
    assert_eq!(fields, ["layout"]);
    assert_eq!(other.state(&kept).await, State::Waiting);
    assert_eq!(obliterate(&offer.token, true).await, Obliterated::Unasked);

    // What ran has nothing to say any more, and the queue goes on as a new one.
    assert!(!bench.settle(run, Outcome::Succeeded { result: String::new(), keep: HOUR }).await);
    let id = bench.push_plain().await;
    assert_eq!(bench.fetch_one().await.0, id);
    assert_eq!(bench.count(State::Waiting).await, 0);
}
