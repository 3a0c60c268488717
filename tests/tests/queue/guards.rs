//! What holds on one server alone, and the table of guards.

use std::time::Duration;

use fourmi_model::State;
use fourmi_queue::Outcome;

use crate::bench::{Bench, KEEP, LEASE, retrying, submission, succeeded};

#[tokio::test]
async fn every_accepted_job_survives_the_kill_of_redis() {
    let bench = Bench::new().await;
    let (queues, name) = (bench.queues.clone(), bench.name.clone());
    let (sender, mut accepted) = tokio::sync::mpsc::unbounded_channel();
    let pushing = tokio::spawn(async move {
        while let Ok(answer) = queues.push(fourmi_model::JobId::new(name.clone()), submission()).await {
            sender.send(answer.unwrap().id).unwrap();
        }
    });
    let mut ids = Vec::new();
    while ids.len() < 200 {
        ids.push(accepted.recv().await.unwrap());
    }
    bench.redis.server(0).kill();
    pushing.await.unwrap();
    while let Some(id) = accepted.recv().await {
        ids.push(id);
    }
    bench.redis.server(0).restart();
    while bench.queues.counts(&bench.name).await.is_err() {}
    for id in &ids {
        assert_eq!(bench.state(id).await, State::Waiting);
    }
    // The last push may be there without its answer.
    assert!(bench.count(State::Waiting).await <= ids.len() as u64 + 1);
}

#[tokio::test]
async fn a_transition_does_the_same_work_whatever_the_backlog() {
    let bench = Bench::new().await;
    let mut work = Vec::new();
    for backlog in [10, 10_000] {
        let jobs: Vec<_> = (0..backlog).map(|_| (bench.new_id(), submission())).collect();
        bench.queues.push_many(&bench.name, &jobs).await.unwrap();
        let mut redis = bench.redis.server(0).connection();
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
        let of_scripts =
            |name: &str| !["evalsha", "eval", "script|load", "config|resetstat", "info", "ping"].contains(&name);
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
    let page = std::fs::read_to_string(format!("{root}/docs/queue.md")).unwrap();
    let (_, table) = page.split_once("## What guards it").unwrap();
    let tests: String = ["", "queue", "queue/conformance", "queue/model", "worker"]
        .iter()
        .flat_map(|folder| std::fs::read_dir(format!("{root}/tests/tests/{folder}")).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    let rows = table.lines().filter(|line| line.starts_with('|') && line.contains('`')).collect::<Vec<_>>();
    assert_eq!(rows.len(), 11);
    for (n, row) in rows.into_iter().enumerate() {
        assert!(row.starts_with(&format!("| {} |", n + 1)), "{row}");
        let guards: Vec<&str> = row.rsplit('|').nth(1).unwrap().split('`').skip(1).step_by(2).collect();
        assert!(!guards.is_empty(), "nothing guards {row}");
        for guard in guards {
            assert!(tests.contains(&format!("fn {guard}(")), "there is no test {guard}");
        }
    }
}
