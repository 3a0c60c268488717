//! Why a job waits: every reason, in the order of how decisive it is, and the estimate of its start.

use std::time::Duration;

use fourmi_model::{
    Awaited, Block, EstimatedStart, JobId, Knowledge, Limit, LimitName, NoEstimate, ParkReason, Priority, State, Why,
};
use fourmi_queue::Outcome;
use jiff::Timestamp;

use crate::{
    bench::{Bench, KEEP, LEASE, error, retrying, submission, succeeded},
    registry::process,
};

const HOUR: Duration = Duration::from_secs(3_600);

async fn why(bench: &Bench, id: &JobId) -> Why {
    bench.queues.why(id).await.unwrap().expect("the job is there")
}

/// A process that runs so many jobs in four slots.
async fn live(bench: &Bench, busy: u32) {
    let mut worker = process(bench, "one", 4);
    worker.busy = busy;
    bench.transitions.beat(&worker).await.unwrap();
}

/// What `reason` a job is blocked for, in order.
fn reasons(why: &Why) -> Vec<String> {
    let reason = |block| serde_json::to_value(block).unwrap()["reason"].as_str().unwrap().to_owned();
    why.blocks.iter().map(reason).collect()
}

#[tokio::test]
async fn a_job_that_is_over_or_runs_says_so() {
    let bench = Bench::new().await;
    assert_eq!(bench.queues.why(&bench.new_id()).await.unwrap(), None);
    let id = bench.push_plain().await;
    let (_, run) = bench.fetch_one().await;
    let running = why(&bench, &id).await;
    assert!(matches!(&running.blocks[..], [Block::Running { worker, .. }] if worker == "w1"), "{running:?}");
    assert_eq!((running.state, running.no_estimate), (State::Running, Some(NoEstimate::Started)));
    bench.settle(run, succeeded()).await;
    let over = why(&bench, &id).await;
    assert_eq!(
        (over.blocks, over.state, over.no_estimate),
        (vec![Block::Finished], State::Succeeded, Some(NoEstimate::Finished))
    );
}

#[tokio::test]
async fn a_waiting_job_says_all_that_blocks_it() {
    let bench = Bench::new().await;
    let first = bench.push_plain().await;
    let waiting = why(&bench, &first).await;
    let nobody = Block::NoWorker { kind: "test.echo".parse().unwrap(), schema_version: 1, workers: Vec::new() };
    assert_eq!((&waiting.blocks[..], waiting.no_estimate), (&[nobody][..], Some(NoEstimate::NoWorker)));

    // One lives that knows an older version only.
    live(&bench, 0).await;
    let mut newer = submission();
    newer.envelope.schema_version = 2;
    let newer = bench.push(newer).await;
    let unknown = why(&bench, &newer).await;
    let Block::NoWorker { workers, schema_version: 2, .. } = &unknown.blocks[0] else { panic!("{unknown:?}") };
    assert_eq!(workers, &[Knowledge { worker: "one".to_owned(), schema_version: Some(1) }]);

    let free = why(&bench, &first).await;
    assert_eq!((free.blocks.len(), free.no_estimate), (0, None));
    assert!(free.estimated_start.is_some());

    let mut urgent = submission();
    urgent.priority = Priority::Urgent;
    bench.push(urgent).await;
    let last = bench.push_plain().await;
    bench.queues.set_cap(&bench.name, Some(1)).await.unwrap();
    bench.fetch_one().await;
    live(&bench, 4).await;
    bench.queues.pause(&bench.name).await.unwrap();
    let all = why(&bench, &last).await;
    assert_eq!(reasons(&all), ["paused", "cap_reached", "no_free_slot", "in_lane"]);
    assert_eq!(all.blocks[1], Block::CapReached { cap: 1, running: 1 });
    assert!(matches!(&all.blocks[2], Block::NoFreeSlot { slots: 4, workers } if workers[0].busy == 4));
    assert!(matches!(all.blocks[3], Block::InLane { priority: Priority::Normal, ahead: 2, or_more: false, .. }));
    assert_eq!(all.no_estimate, Some(NoEstimate::Paused));
    assert!(bench.queues.drain(&bench.name, "one").await.unwrap());
    assert_eq!(reasons(&why(&bench, &last).await), ["paused", "no_worker", "in_lane"]);
}

#[tokio::test]
async fn a_job_that_waits_for_a_time_a_cause_or_others_says_which() {
    let bench = Bench::new().await;
    live(&bench, 0).await;
    let due: Timestamp = (Timestamp::now() + HOUR).round(jiff::Unit::Millisecond).unwrap();
    let mut submission = submission();
    submission.not_before = Some(due);
    let scheduled = bench.push(submission).await;
    let why_scheduled = why(&bench, &scheduled).await;
    assert_eq!(why_scheduled.blocks, [Block::NotDue { until: due }]);
    assert!(why_scheduled.estimated_start.unwrap().low >= due);

    let retried = bench.push_plain().await;
    let (_, run) = bench.fetch_one().await;
    bench.settle(run, retrying(HOUR)).await;
    let why_retried = why(&bench, &retried).await;
    assert!(matches!(&why_retried.blocks[..], [Block::Retrying { error: Some(it), .. }] if *it == error()));

    let parked = bench.push_plain().await;
    let (_, run) = bench.fetch_one().await;
    bench.settle(run, Outcome::Parked { error: error(), reason: ParkReason::Offline, keep: KEEP }).await;
    let why_parked = why(&bench, &parked).await;
    assert!(matches!(why_parked.blocks[..], [Block::Parked { parked_reason: ParkReason::Offline, .. }]));
    assert_eq!(why_parked.no_estimate, Some(NoEstimate::Parked));

    // What it waits for may be in another queue, or forgotten.
    let blocked = bench.push_plain().await;
    let hash = bench.key(&format!("j:{}", blocked.uuid()));
    let () = bench.redis.ask(redis::cmd("HSET").arg(hash).arg("state").arg("blocked"));
    let other = Bench::on(bench.redis.clone(), "other").await;
    let (parent, forgotten) = (other.push_plain().await, other.new_id());
    let set = bench.key(&format!("dep:{}", blocked.uuid()));
    let () = bench.redis.ask(redis::cmd("SADD").arg(set).arg(parent.to_string()).arg(forgotten.to_string()));
    let why_blocked = why(&bench, &blocked).await;
    let jobs = vec![Awaited { job: parent, state: Some(State::Waiting) }, Awaited { job: forgotten, state: None }];
    assert_eq!(why_blocked.blocks, [Block::BlockedBy { count: 2, jobs }]);
    assert_eq!(why_blocked.no_estimate, Some(NoEstimate::Blocked));
}

#[tokio::test]
async fn a_job_under_a_limit_says_which_and_who_holds_it() {
    let bench = Bench::new().await;
    live(&bench, 1).await;
    let host: LimitName = "host/example.org".parse().unwrap();
    let limit = Limit { concurrency: Some(1), rate: None };
    assert!(bench.queues.set_limit(&bench.name, &host, Some(limit)).await.unwrap());
    let of_host = async |tenant: &str| {
        let mut submission = submission();
        submission.tenant = Some(tenant.parse().unwrap());
        submission.limits = vec![host.clone()];
        bench.push(submission).await
    };
    let holder = of_host("acme").await;
    bench.fetch_one().await;
    let (first, second, other) = (of_host("acme").await, of_host("acme").await, of_host("globex").await);
    let held = why(&bench, &second).await;
    assert_eq!(reasons(&held), ["limit_reached", "in_lane"]);
    let Block::LimitReached { limit, concurrency: Some(1), running: 1, holders, .. } = &held.blocks[0] else {
        panic!("{held:?}")
    };
    assert_eq!((limit, &holders[..], held.no_estimate), (&host, &[holder][..], Some(NoEstimate::Limited)));
    let Block::InLane { tenant, ahead: 1, .. } = &held.blocks[1] else { panic!("{held:?}") };
    assert_eq!(tenant.as_ref().unwrap().as_str(), "acme");
    for id in [first, other] {
        assert_eq!(reasons(&why(&bench, &id).await)[0], "limit_reached");
    }
}

#[tokio::test]
async fn a_suspect_says_that_it_waits_to_run_alone() {
    let bench = Bench::new().await;
    live(&bench, 1).await;
    let id = bench.push_plain().await;
    let (_, run) = bench.fetch_one().await;
    let () = bench.redis.ask(redis::cmd("ZADD").arg(bench.key("lease")).arg(1).arg(run.job.to_string()));
    bench.reclaim().await;
    let suspect = why(&bench, &id).await;
    assert_eq!(
        (&suspect.blocks[..], suspect.no_estimate),
        (&[Block::Suspect { ahead: 0 }][..], Some(NoEstimate::Suspect))
    );
}

#[tokio::test]
async fn the_start_of_a_job_is_estimated_from_what_has_started_lately() {
    let bench = Bench::new().await;
    live(&bench, 4).await;
    let jobs: Vec<_> = (0..300).map(|_| (bench.new_id(), submission())).collect();
    bench.queues.push_many(&bench.name, &jobs).await.unwrap();
    let last = &jobs[299].0;
    bench.reclaim().await;
    assert_eq!(why(&bench, last).await.no_estimate, Some(NoEstimate::NoRecentStarts));

    for (_, run) in bench.fetch(120).await {
        bench.settle(run, succeeded()).await;
    }
    // 120 jobs have started in half a minute, so the 180 others take three quarters of one.
    let then = Timestamp::now().as_millisecond() - 30_000;
    let pace = format!("{then} 0 {then} 0");
    let () = bench.redis.ask(redis::cmd("HSET").arg(bench.key("m")).arg("pace").arg(pace));
    let now = Timestamp::now();
    let EstimatedStart { low, at, high } = why(&bench, last).await.estimated_start.unwrap();
    let seconds = |time: Timestamp| (time - now).get_seconds();
    assert!((40..=60).contains(&seconds(at)), "{at} is in {} s", seconds(at));
    assert!(low < at && at < high && seconds(low) > 20, "{low} {at} {high}");
    let first = bench.queues.list(&bench.name, &Default::default(), None, 1).await.unwrap().jobs.remove(0);
    let sooner = why(&bench, &first.id).await.estimated_start.unwrap();
    assert!(
        sooner.at < at
            && sooner.high.as_millisecond() - sooner.low.as_millisecond()
                < (high.as_millisecond() - low.as_millisecond())
    );

    // The reclaiming tick keeps the samples young: it replaces the older one after half a minute.
    bench.reclaim().await;
    let pace: String = bench.redis.ask(redis::cmd("HGET").arg(bench.key("m")).arg("pace"));
    assert!(pace.starts_with(&format!("{then} 0 ")) && pace.ends_with(" 120"), "{pace}");
    assert_eq!(bench.transitions.fetch("w2", 1, LEASE, false).await.unwrap().claims.len(), 1);
}
