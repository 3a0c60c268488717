//! Leases that run out, and jobs that take their workers down.

use std::time::Duration;

use fourmi_tests::eventually_async;
use serde_json::{Value, json};

use crate::stage::{Stage, wanted};

/// The shortest lease.
const SHORT: u64 = 500;

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_lease_ran_out_is_anothers_and_the_first_worker_is_refused() {
    let stage = Stage::open().await;
    let id = stage.submit("x.echo", json!({})).await;
    let first = stage.lease_one(json!({"lease_ms": SHORT})).await;
    let second = stage.lease_one(json!({"worker": "other"})).await;
    assert_eq!((&second.id, first.number, second.number), (&id, 1, 2));
    assert_eq!(stage.job(&id).await["worker"], "other@acme");
    // A lost run is no attempt; which of the jobs that the worker had was to blame is not known, so it comes alone.
    assert_eq!(
        [&second.job["attempts"], &second.job["crashes"], &second.job["alone"]],
        [&json!(1), &json!(0), &json!(true)]
    );
    for (what, more) in [
        ("renew", json!({})),
        ("progress", json!({"stage": "s", "percent": 99})),
        ("log", json!({"lines": [{"text": "too late"}]})),
        ("settle", json!({"outcome": "succeeded", "result": "of the first"})),
        ("settle", json!({"outcome": "released"})),
    ] {
        assert_eq!(stage.refused(what, &first, more).await, "lease_lost", "{what}");
    }
    stage.says("settle", &second, json!({"outcome": "succeeded", "result": "of the second"})).await;
    assert_eq!(stage.refused("settle", &first, json!({"outcome": "succeeded"})).await, "lease_lost");
    let job = stage.job(&id).await;
    assert_eq!((&job["result"], job.get("log_lines")), (&json!("of the second"), None));
    let runs = stage.answer(&stage.app, "GET", &format!("/jobs/{id}/runs"), Value::Null, 200).await;
    assert_eq!((&runs["runs"][0]["run"], &runs["runs"][0]["error"]["code"]), (&json!(1), &json!("worker_lost")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_renewed_is_kept() {
    let stage = Stage::open().await;
    let id = stage.submit("x.echo", json!({})).await;
    let run = stage.lease_one(json!({"lease_ms": SHORT})).await;
    stage.says("renew", &run, json!({})).await;
    let other = stage.submit("x.echo", json!({})).await;
    let lost = stage.lease_one(json!({"lease_ms": SHORT})).await;
    assert_eq!(lost.id, other);
    // The second comes back, which shows that leases of this length have run out.
    assert_eq!(stage.lease_one(json!({})).await.id, other);
    assert_eq!((stage.state(&id).await.as_str(), stage.job(&id).await["run"].as_u64()), ("running", Some(1)));
    stage.says("settle", &run, json!({"outcome": "succeeded"})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_takes_its_worker_down_alone_three_times_has_failed_and_its_neighbours_have_not() {
    let stage = Stage::open().await;
    let poison = stage.submit("x.echo", json!({"tags": ["poison"]})).await;
    let mut others = Vec::new();
    for _ in 0..3 {
        others.push(stage.submit("x.echo", json!({})).await);
    }
    let leased = stage.lease(json!({"max": 10, "lease_ms": SHORT})).await;
    assert_eq!(leased["jobs"].as_array().unwrap().len(), 4);
    // The worker dies with all of them. Then each comes alone, and whoever gets the poison dies again.
    let job = eventually_async("the poison has failed", async || {
        let leased = stage.lease(json!({"max": 10, "lease_ms": SHORT, "wait_s": 1})).await;
        let jobs = leased["jobs"].as_array().unwrap();
        assert!(jobs.len() <= 1, "suspects come alone: {leased}");
        if let Some(job) = jobs.first().filter(|job| job["id"] != json!(poison)) {
            assert_eq!(job["alone"], true);
            let end = json!({"outcomes": [{"id": job["id"], "run": job["run"], "outcome": "succeeded"}]});
            stage.answer(&stage.worker, "POST", "/work/settle", end, 200).await;
        }
        let job = stage.job(&poison).await;
        (job["state"] == "failed").then_some(job)
    })
    .await;
    assert_eq!((&job["error"]["code"], &job["crashes"], &job["run"]), (&json!("crashed"), &json!(3), &json!(4)));
    for other in others {
        assert_eq!(stage.until_state(&other, "succeeded").await["crashes"], 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn suspects_hold_up_neither_other_jobs_nor_other_kinds() {
    let stage = Stage::open().await;
    stage.register("x.other", json!({})).await;
    let suspect = stage.submit("x.echo", json!({})).await;
    stage.lease_one(json!({"lease_ms": SHORT})).await;
    stage.until_state(&suspect, "waiting").await;
    let why = stage.answer(&stage.app, "GET", &format!("/jobs/{suspect}/why"), Value::Null, 200).await;
    assert!(why["blocks"].as_array().unwrap().iter().any(|block| block["reason"] == "suspect"), "{why}");
    let plain = stage.submit("x.echo", json!({})).await;
    let of_other = stage.submit("x.other", json!({})).await;
    let kinds = json!({"x.echo": 1, "x.other": 1});
    let mut found = Vec::new();
    while found.len() < 3 {
        let leased = stage.lease(json!({"max": 10, "kinds": kinds, "wait_s": 20})).await;
        let jobs = leased["jobs"].as_array().unwrap().clone();
        let is_alone = jobs.iter().any(|job| job["alone"] == true);
        assert!(!jobs.is_empty() && (!is_alone || jobs.len() == 1), "{leased}");
        found.extend(jobs.iter().map(|job| job["id"].as_str().unwrap().to_owned()));
    }
    found.sort();
    let mut expected = [suspect, plain, of_other];
    expected.sort();
    assert_eq!(found, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_survive_the_death_of_the_api_while_they_are_leased() {
    let mut stage = Stage::open().await;
    let id = stage.submit("x.echo", json!({})).await;
    let run = stage.lease_one(json!({})).await;
    let waiting = stage.submit("x.echo", json!({})).await;
    stage.platform.api.kill();
    stage.platform.restart_api();
    stage.says("progress", &run, json!({"stage": "s", "percent": 50})).await;
    stage.says("settle", &run, json!({"outcome": "succeeded"})).await;
    assert_eq!(stage.state(&id).await, "succeeded");
    assert_eq!(stage.lease_one(json!({})).await.id, waiting);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_jobs_gets_them_at_once_and_asks_redis_seldom() {
    let stage = Stage::open().await;
    let lease = |worker: &str| {
        let body = wanted(json!({"worker": worker, "wait_s": 20}));
        stage.request(&stage.worker, "POST", "/work/lease").json(&body).send()
    };
    let submit = async {
        eventually_async("both wait", async || {
            let listed = stage.platform.get("/workers?queue=external").await;
            (listed["workers"].as_array().unwrap().len() == 2).then_some(())
        })
        .await;
        let before = scripts_run(&stage);
        tokio::time::sleep(Duration::from_secs(1)).await; // Nothing happens: that is what is measured.
        let asked = scripts_run(&stage) - before;
        let submitted = std::time::Instant::now();
        let later = jiff::Timestamp::now() + Duration::from_millis(300);
        stage.submit("x.echo", json!({})).await;
        stage.submit("x.echo", json!({"not_before": later})).await;
        (submitted, asked)
    };
    let (one, other, (submitted, asked)) = tokio::join!(lease("w1"), lease("w2"), submit);
    for answer in [one.unwrap(), other.unwrap()] {
        let leased: Value = answer.json().await.unwrap();
        assert_eq!(leased["jobs"].as_array().unwrap().len(), 1, "{leased}");
    }
    // The second was due 300 ms later; a slow look would have been later still.
    assert!(submitted.elapsed() < Duration::from_millis(1_500), "{:?}", submitted.elapsed());
    // Housekeeping of five queues, relays, archivers, and two who wait.
    assert!(asked < 80, "{asked} scripts in a second of silence");
}

/// How many scripts Redis has run.
fn scripts_run(stage: &Stage) -> u64 {
    let mut connection = stage.platform.redis.connection();
    let info: String = redis::cmd("INFO").arg("commandstats").query(&mut connection).unwrap();
    let line = info.lines().find(|line| line.starts_with("cmdstat_evalsha:")).expect("scripts were run").to_owned();
    line.split("calls=").nth(1).unwrap().split(',').next().unwrap().parse().unwrap()
}
