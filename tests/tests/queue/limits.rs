//! What may run at the same time, and how many may start in a time, over all processes.

use std::{collections::BTreeMap, time::Duration};

use fourmi_model::{Failure, JobId, Limit, LimitName, Rate, State, Submission};
use fourmi_queue::{Outcome, Run};

use crate::bench::{Bench, KEEP, payload, submission};

fn name(text: &str) -> LimitName {
    text.parse().unwrap()
}

fn at_once(jobs: u32) -> Option<Limit> {
    Some(Limit { concurrency: Some(jobs), rate: None })
}

fn per_second(text: &str) -> Option<Limit> {
    Some(Limit { concurrency: None, rate: Some(text.parse::<Rate>().unwrap()) })
}

fn under(limits: &[&str]) -> Submission {
    Submission { limits: limits.iter().map(|limit| name(limit)).collect(), ..submission() }
}

fn of_kind(kind: &str) -> Submission {
    Submission::new(kind.parse().unwrap(), payload("{}"))
}

fn done() -> Outcome {
    Outcome::Succeeded { result: String::new(), keep: KEEP }
}

impl Bench {
    async fn limit(&self, limit: &str, to: Option<Limit>) {
        assert!(self.queues.set_limit(&self.name, &name(limit), to).await.unwrap());
    }

    async fn push_under(&self, count: usize, limits: &[&str]) -> Vec<JobId> {
        let mut ids = Vec::new();
        for _ in 0..count {
            ids.push(self.push(under(limits)).await);
        }
        ids
    }

    async fn runs(&self, want: usize) -> Vec<Run> {
        self.fetch(want).await.into_iter().map(|(_, run)| run).collect()
    }

    /// How many jobs run under each limit.
    async fn held(&self) -> BTreeMap<String, u64> {
        let limits = self.queues.limits(&self.name).await.unwrap();
        limits.into_iter().map(|limit| (limit.name.to_string(), limit.running)).collect()
    }
}

#[tokio::test]
async fn no_more_run_at_once_than_a_limit_says() {
    let bench = Bench::new().await;
    bench.limit("host/a", at_once(2)).await;
    bench.push_under(10, &["host/a"]).await;
    let free = bench.push_plain().await;
    let first = bench.fetch(50).await;
    assert_eq!(first.len(), 3);
    assert!(first.iter().any(|(id, _)| *id == free), "what is under no limit goes on");
    let held: Vec<Run> = first.iter().filter(|(id, _)| *id != free).map(|(_, run)| *run).collect();
    assert!(bench.runs(50).await.is_empty());
    for run in held {
        assert!(bench.settle(run, done()).await);
        assert_eq!(bench.runs(50).await.len(), 1, "each that ends lets one start");
    }
    assert_eq!(bench.held().await, BTreeMap::from([("host/a".into(), 2)]));
}

#[tokio::test]
async fn every_way_out_of_a_run_gives_back_what_it_held() {
    let bench = Bench::new().await;
    bench.limit("host/a", at_once(1)).await;
    let error = || Failure::retry("later", "later").report();
    let hour = Duration::from_secs(3_600);
    let outcomes = [
        done(),
        Outcome::Failed { error: error(), keep: KEEP },
        Outcome::Cancelled { error: error(), keep: KEEP },
        Outcome::Retrying { error: error(), delay: hour, keep: KEEP },
        Outcome::Parked { error: error(), reason: fourmi_model::ParkReason::Offline, keep: KEEP },
        Outcome::Crashed { error: error(), delay: hour, keep: KEEP },
        Outcome::Released { delay: hour },
        Outcome::Misdirected { error: error(), delay: hour },
    ];
    for _ in 0..outcomes.len() + 2 {
        bench.push(Submission { isolated: true, ..under(&["host/a"]) }).await;
    }
    for outcome in outcomes {
        let (_, run) = bench.fetch_one().await;
        assert!(bench.runs(5).await.is_empty());
        assert!(bench.settle(run, outcome).await);
    }
    // A worker dies: its lease runs out.
    let (_, run) = bench.fetch_one().await;
    bench.expire(run);
    assert_eq!(bench.reclaim().await, 1);
    assert_eq!(bench.held().await["host/a"], 0);
    bench.fetch_one().await;
}

#[tokio::test]
async fn jobs_of_a_kind_or_a_tenant_are_bound_without_naming_it() {
    let bench = Bench::new().await;
    bench.limit("kind/test.slow", at_once(1)).await;
    bench.limit("tenant/*", at_once(2)).await;
    bench.limit("tenant/big", at_once(3)).await;
    for _ in 0..5 {
        bench.push(of_kind("test.slow")).await;
        for tenant in ["small", "big"] {
            bench.push(Submission { tenant: Some(tenant.parse().unwrap()), ..submission() }).await;
        }
    }
    let fetched = bench.fetch(50).await;
    let mut counts = BTreeMap::new();
    for (id, _) in fetched {
        let job = bench.job(&id).await;
        *counts.entry(job.tenant.map_or(job.kind.to_string(), |tenant| tenant.to_string())).or_insert(0) += 1;
    }
    assert_eq!(counts, BTreeMap::from([("big".into(), 3), ("small".into(), 2), ("test.slow".into(), 1)]));
}

#[tokio::test]
async fn a_job_under_two_limits_needs_room_in_both() {
    let bench = Bench::new().await;
    bench.limit("host/a", at_once(1)).await;
    bench.limit("camera/1", at_once(1)).await;
    let both = bench.push_under(2, &["host/a", "camera/1"]).await;
    let host = bench.push_under(2, &["host/a"]).await;
    let camera = bench.push_under(2, &["camera/1"]).await;
    let mut left = 6;
    let mut running: Vec<(JobId, Run)> = Vec::new();
    while left > 0 {
        running.extend(bench.fetch(10).await);
        assert!(!running.is_empty(), "{left} jobs are left and none starts");
        let held = bench.held().await;
        assert!(held.values().all(|running| *running <= 1), "{held:?}");
        let (_, run) = running.remove(0);
        assert!(bench.settle(run, done()).await);
        left -= 1;
    }
    for id in both.into_iter().chain(host).chain(camera) {
        assert_eq!(bench.state(&id).await, State::Succeeded);
    }
}

#[tokio::test]
async fn no_more_start_in_a_time_than_a_rate_says() {
    let bench = Bench::new().await;
    bench.limit("host/a", per_second("20/s+5")).await;
    bench.push_under(30, &["host/a"]).await;
    let begun = std::time::Instant::now();
    let mut started = bench.runs(50).await.len();
    assert!((5..=7).contains(&started), "the bucket holds five, {started} came");
    while started < 30 {
        let fetched = bench.transitions.fetch("w1", 50, Duration::from_secs(30), false).await.unwrap();
        started += fetched.claims.len();
        let most = 5.0 + 20.0 * begun.elapsed().as_secs_f64() + 1.0;
        assert!(started as f64 <= most, "{started} started, {most} may");
        if started < 30 {
            let next = fetched.next_due.expect("it is known when the next token comes");
            assert!(next <= Duration::from_millis(60), "{next:?}");
            tokio::time::sleep(next).await;
        }
    }
    assert!(begun.elapsed() >= Duration::from_millis(1_200), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn the_rate_of_a_queue_binds_all_of_it() {
    let bench = Bench::new().await;
    bench.push_plain().await;
    bench.limit("queue", per_second("2/h")).await;
    for _ in 0..3 {
        bench.push_plain().await;
    }
    assert_eq!(bench.runs(10).await.len(), 2);
    let fetched = bench.transitions.fetch("w1", 10, Duration::from_secs(30), false).await.unwrap();
    assert!(fetched.claims.is_empty());
    let next = fetched.next_due.unwrap();
    assert!(next > Duration::from_secs(1_700) && next <= Duration::from_secs(1_800), "{next:?}");
    bench.limit("queue", None).await;
    assert_eq!(bench.runs(10).await.len(), 2);
}

#[tokio::test]
async fn a_changed_limit_is_in_force_with_the_next_fetch() {
    let bench = Bench::new().await;
    bench.limit("host/a", at_once(1)).await;
    bench.push_under(20, &["host/a"]).await;
    let mut running = bench.runs(50).await;
    assert_eq!(running.len(), 1);
    bench.limit("host/a", at_once(4)).await;
    running.extend(bench.runs(50).await);
    assert_eq!(running.len(), 4);
    bench.limit("host/a", at_once(2)).await;
    for run in running.drain(..2) {
        assert!(bench.settle(run, done()).await);
    }
    assert!(bench.runs(50).await.is_empty(), "two still run, and two may");
    bench.limit("host/a", None).await;
    assert_eq!(bench.runs(50).await.len(), 16);
}

#[tokio::test]
async fn a_limit_binds_jobs_that_waited_before_it_was_set() {
    let bench = Bench::new().await;
    let before = bench.push_under(5, &["host/a"]).await;
    for _ in 0..5 {
        bench.push(of_kind("test.slow")).await;
    }
    bench.limit("host/*", at_once(1)).await;
    bench.limit("kind/test.slow", at_once(2)).await;
    assert_eq!(bench.runs(50).await.len(), 3);
    assert!(bench.runs(50).await.is_empty());
    bench.limit("host/*", None).await;
    assert_eq!(bench.runs(50).await.len(), 4, "the class is gone, and its lanes with it");
    assert_eq!(bench.state(&before[4]).await, State::Running);
}

#[tokio::test]
async fn a_class_of_limits_binds_each_value_by_itself() {
    let bench = Bench::new().await;
    bench.limit("host/*", at_once(1)).await;
    for host in 0..50 {
        bench.push_under(3, &[&format!("host/{host}")]).await;
    }
    assert_eq!(bench.runs(200).await.len(), 50);
    assert!(bench.runs(200).await.is_empty());
    bench.limit("host/*", at_once(2)).await;
    assert_eq!(bench.runs(200).await.len(), 50);
}

#[tokio::test]
async fn tenants_share_a_limit_by_turns() {
    let bench = Bench::new().await;
    bench.limit("kind/test.echo", at_once(1)).await;
    for tenant in ["a", "b", "c"] {
        for _ in 0..20 {
            bench.push(Submission { tenant: Some(tenant.parse().unwrap()), ..submission() }).await;
        }
    }
    let mut counts = BTreeMap::new();
    for _ in 0..30 {
        let (id, run) = bench.fetch_one().await;
        *counts.entry(bench.job(&id).await.tenant.unwrap().to_string()).or_insert(0) += 1;
        assert!(bench.settle(run, done()).await);
    }
    assert_eq!(counts, BTreeMap::from([("a".into(), 10), ("b".into(), 10), ("c".into(), 10)]));
}

#[tokio::test]
async fn a_suspect_that_a_limit_holds_back_holds_nobody_back() {
    let bench = Bench::new().await;
    bench.limit("host/a", at_once(2)).await;
    bench.push_under(1, &["host/a"]).await;
    let (suspect, run) = bench.fetch_one().await;
    bench.push_under(1, &["host/a"]).await;
    let (_, holder) = bench.fetch_one().await;
    bench.limit("host/a", at_once(1)).await;
    bench.expire(run);
    bench.reclaim().await;
    let free = bench.push_plain().await;
    let fetched = bench.transitions.fetch("w2", 5, Duration::from_secs(30), false).await.unwrap();
    assert!(!fetched.must_be_idle);
    assert_eq!(fetched.claims.iter().map(|claim| &claim.id).collect::<Vec<_>>(), [&free]);
    assert!(bench.settle(holder, done()).await);
    let fetched = bench.transitions.fetch("w2", 5, Duration::from_secs(30), true).await.unwrap();
    assert_eq!(fetched.claims[0].id, suspect);
    assert_eq!(bench.held().await["host/a"], 1);
}

#[tokio::test]
async fn who_holds_a_limit_is_told() {
    let bench = Bench::new().await;
    bench.limit("host/a", Some(Limit { concurrency: Some(1), rate: Some("10/m".parse().unwrap()) })).await;
    let ids = bench.push_under(2, &["host/a"]).await;
    bench.fetch_one().await;
    assert!(bench.runs(1).await.is_empty());
    let state = bench.queues.limits_of(&ids[1]).await.unwrap().remove(0);
    assert_eq!((state.name, state.limit.rate), (name("host/a"), Some("10/m".parse().unwrap())));
    assert_eq!((state.running, state.lanes_asleep, state.holders), (1, 1, vec![ids[0].clone()]));
    assert!(state.tokens.is_some_and(|tokens| (9.0..9.5).contains(&tokens)), "{:?}", state.tokens);
}

#[tokio::test]
async fn a_queue_has_a_thousand_limits_at_most() {
    let bench = Bench::new().await;
    for host in 0..1_000 {
        bench.limit(&format!("host/{host}"), at_once(1)).await;
    }
    assert!(!bench.queues.set_limit(&bench.name, &name("host/more"), at_once(1)).await.unwrap());
    bench.limit("host/7", at_once(2)).await;
    bench.limit("host/8", None).await;
    bench.limit("host/more", at_once(1)).await;
    assert_eq!(bench.queues.limits(&bench.name).await.unwrap().len(), 1_000);
}
