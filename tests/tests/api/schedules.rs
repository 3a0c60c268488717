//! Schedules, from a rule to the jobs that it makes.

use std::collections::BTreeSet;

use fourmi_tests::{Platform, Program, eventually_async};
use reqwest::RequestBuilder;
use serde_json::{Value, json};

use crate::problem;

/// A platform, and what may be scheduled on it.
struct Clock {
    platform: Platform,
}

impl Clock {
    async fn open() -> Self {
        let platform = Platform::with(&[], 0).await;
        let kind = json!({"summary": "Hears of a tick.", "payload_schema": {"type": "object"}});
        answer(platform.request("PUT", "/kinds/x.tick").json(&kind), 201).await;
        Self { platform }
    }

    /// Makes a schedule of every second: its id.
    async fn every_second(&self, name: &str, more: Value) -> String {
        let mut wanted =
            json!({"name": name, "cron": "* * * * * *", "job": {"kind": "x.tick", "payload": {"at": "{{tick}}"}}});
        wanted.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        text(&answer(self.platform.request("POST", "/schedules").json(&wanted), 201).await["id"])
    }

    async fn schedule(&self, id: &str) -> Value {
        self.platform.get(&format!("/schedules/{id}")).await
    }

    /// What became of its ticks, oldest first.
    async fn fires(&self, id: &str) -> Vec<Value> {
        let mut fires = Vec::new();
        let mut path = format!("/schedules/{id}/fires?limit=200");
        loop {
            let page = self.platform.get(&path).await;
            fires.extend(page["fires"].as_array().unwrap().clone());
            let Some(next) = page["next"].as_str() else { break };
            path = format!("/schedules/{id}/fires?limit=200&before={next}");
        }
        fires.reverse();
        fires
    }

    /// Waits until so many of its ticks have come.
    async fn until(&self, id: &str, count: usize) -> Vec<Value> {
        eventually_async("its ticks come", async || Some(self.fires(id).await).filter(|fires| fires.len() >= count))
            .await
    }

    /// The ids of all jobs of a schedule of this name.
    async fn jobs(&self, name: &str) -> Vec<Value> {
        let mut jobs = Vec::new();
        let mut path = format!("/jobs?limit=200&tag=schedule:{name}");
        loop {
            let page = self.platform.get(&path).await;
            jobs.extend(page["jobs"].as_array().unwrap().clone());
            let Some(next) = page["next"].as_str() else { return jobs };
            path = format!("/jobs?limit=200&tag=schedule:{name}&cursor={next}");
        }
    }
}

async fn answer(request: RequestBuilder, status: u16) -> Value {
    let answer = request.send().await.unwrap();
    let (found, text) = (answer.status().as_u16(), answer.text().await.unwrap());
    assert_eq!(found, status, "{text}");
    if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// The time in so many seconds.
fn in_seconds(seconds: i64) -> String {
    (jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds)).to_string()
}

fn outcomes(fires: &[Value]) -> Vec<&str> {
    fires.iter().map(|fire| fire["outcome"].as_str().unwrap()).collect()
}

/// The second of each tick.
fn seconds(fires: &[Value]) -> Vec<i64> {
    fires.iter().map(|fire| fire["tick"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_second()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_tick_makes_a_job_that_is_told_of_it() {
    let clock = Clock::open().await;
    let job = json!({
        "kind": "x.tick", "tags": ["night"], "priority": "high", "deadline_s": 3600,
        "payload": {"at": "{{tick}}", "ms": "{{tick_ms}}", "since": "{{window_start}}", "local": "{{tick_local}}"},
    });
    let id = clock.every_second("report", json!({"time_zone": "Europe/Paris", "job": job})).await;
    let _scheduler = clock.platform.scheduler();
    let fires = clock.until(&id, 3).await;

    assert!(outcomes(&fires).iter().all(|outcome| *outcome == "fired"), "{fires:?}");
    let seconds = seconds(&fires);
    assert!(seconds.windows(2).all(|pair| pair[1] == pair[0] + 1), "{seconds:?}");
    let mut since = text(&fires[0]["tick"]);
    for fire in &fires {
        let job = clock.platform.get(&format!("/jobs/{}", text(&fire["job"]))).await;
        let tick = text(&fire["tick"]);
        let ms = tick.parse::<jiff::Timestamp>().unwrap().as_millisecond();
        assert_eq!((&job["payload"]["at"], &job["payload"]["ms"]), (&json!(tick), &json!(ms)));
        assert_eq!(job["payload"]["since"], json!(since));
        assert!(text(&job["payload"]["local"]).ends_with(":00"), "{job}");
        assert_eq!((&job["tags"], &job["priority"]), (&json!(["night", "schedule:report"]), &json!("high")));
        since = tick;
    }
    let schedule = clock.schedule(&id).await;
    assert!(schedule["last_fired_at"].is_string() && schedule["next_tick_at"].is_string(), "{schedule}");
    assert!(schedule["last_job"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn schedulers_that_die_and_come_back_make_each_job_once() {
    let clock = Clock::open().await;
    let mut ids = Vec::new();
    for n in 0..10 {
        ids.push(clock.every_second(&format!("n{n}"), json!({"missed": "all", "missed_limit": 1_000})).await);
    }
    // One has a clock that goes two seconds before, one two seconds after.
    let start = |n: usize| -> Program {
        let skew = ["+2s", "-2s", "+0s"][n % 3];
        let faketime = std::fs::read_dir("/usr/lib").unwrap().flatten();
        let library =
            faketime.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1")).find(|path| path.exists());
        let mut settings: Vec<(&str, String)> = clock.platform.settings().to_vec();
        if let Some(library) = library {
            settings.push(("LD_PRELOAD", library.display().to_string()));
            settings.push(("FAKETIME", skew.to_owned()));
            settings.push(("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()));
        }
        Program::start("fourmi-schedules", &[], settings)
    };
    let mut schedulers: Vec<Program> = (0..3).map(start).collect();
    for round in 0..12 {
        let seen = clock.fires(&ids[round % 10]).await.len();
        clock.until(&ids[round % 10], seen + 1).await;
        schedulers[round % 3].kill();
        schedulers[round % 3] = start(round);
    }
    let first = seconds(&clock.fires(&ids[0]).await)[0];
    for (n, id) in ids.iter().enumerate() {
        answer(clock.platform.request("POST", &format!("/schedules/{id}/pause")), 200).await;
        // What was pushed is noted by whoever comes next, also after the pause.
        let fires = eventually_async("what was made is noted", async || {
            let (fires, jobs) = (clock.fires(id).await, clock.jobs(&format!("n{n}")).await);
            (fires.len() == jobs.len()).then_some(fires)
        })
        .await;
        let seconds = seconds(&fires);
        assert!(seconds.len() >= 6 && (seconds[0] - first).abs() <= 3, "{n}: {seconds:?}");
        assert!(seconds.windows(2).all(|pair| pair[1] == pair[0] + 1), "{n}: {seconds:?}");
        let noted: BTreeSet<String> = fires.iter().map(|fire| text(&fire["job"])).collect();
        let jobs = clock.jobs(&format!("n{n}")).await;
        let made: BTreeSet<String> = jobs.iter().map(|job| text(&job["id"])).collect();
        assert_eq!(noted, made);
        let ticks: BTreeSet<&str> = jobs.iter().map(|job| job["payload"]["at"].as_str().unwrap()).collect();
        assert_eq!(ticks.len(), jobs.len(), "each tick made one");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_tick_does_while_an_earlier_job_is_not_over_is_a_choice() {
    let clock = Clock::open().await;
    // No worker takes the jobs: the first waits for ever.
    let skip = clock.every_second("skip", json!({"overlap": "skip"})).await;
    let queue_one = clock.every_second("queue_one", json!({"overlap": "queue_one"})).await;
    let cancel_old = clock.every_second("cancel_old", json!({"overlap": "cancel_old"})).await;
    let allow = clock.every_second("allow", json!({})).await;
    let _scheduler = clock.platform.scheduler();
    for (id, expected) in [
        (&skip, ["fired", "skipped", "skipped"]),
        (&queue_one, ["fired", "skipped", "skipped"]),
        (&cancel_old, ["fired"; 3]),
        (&allow, ["fired"; 3]),
    ] {
        assert_eq!(outcomes(&clock.until(id, 3).await)[..3], expected);
    }
    let states = |jobs: Vec<Value>| -> Vec<String> { jobs.iter().map(|job| text(&job["state"])).collect() };
    assert_eq!(states(clock.jobs("skip").await), ["waiting"]);
    let of_cancelled = states(clock.jobs("cancel_old").await);
    assert!(of_cancelled.iter().filter(|state| *state == "waiting").count() <= 1, "{of_cancelled:?}");
    assert!(of_cancelled.iter().filter(|state| *state == "cancelled").count() >= 2, "{of_cancelled:?}");

    // One runs: the next waits for it, and those after that make none.
    let lease = json!({"worker": "w", "kinds": {"x.tick": 1}, "max": 50, "lease_ms": 60_000});
    let leased = answer(clock.platform.request("POST", "/work/lease").json(&lease), 200).await;
    let of_queue_one = clock.jobs("queue_one").await;
    assert!(leased["jobs"].as_array().unwrap().iter().any(|job| job["id"] == of_queue_one[0]["id"]), "{leased}");
    let queued = eventually_async("one waits for the one that runs", async || {
        let jobs = clock.jobs("queue_one").await;
        jobs.into_iter().find(|job| job["state"] == "blocked")
    })
    .await;
    assert_eq!(queued["after"], json!([of_queue_one[0]["id"]]));
    let seen = clock.fires(&queue_one).await.len();
    let fires = clock.until(&queue_one, seen + 2).await;
    assert_eq!(outcomes(&fires[fires.len() - 1..]), ["skipped"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_is_changed_paused_resumed_run_and_deleted() {
    let clock = Clock::open().await;
    let _scheduler = clock.platform.scheduler();
    let wanted = |name: &str, cron: &str| json!({"name": name, "cron": cron, "time_zone": "Europe/Paris", "job": {"kind": "x.tick", "payload": {"at": "{{tick}}"}}});
    let made = answer(clock.platform.request("POST", "/schedules").json(&wanted("nightly", "30 2 * * *")), 201).await;
    let id = text(&made["id"]);
    let path = format!("/schedules/{id}");
    let ticks = clock.platform.get(&format!("{path}/ticks?count=3")).await;
    assert_eq!(ticks["ticks"].as_array().unwrap().len(), 3);
    assert_eq!(ticks["ticks"][0], made["next_tick_at"]);
    let listed = clock.platform.get("/schedules?name=nightly").await;
    assert_eq!(listed["schedules"], json!([made]));
    assert_eq!(clock.platform.get("/schedules?name=other").await["schedules"], json!([]));

    // By hand, also while it is paused.
    let paused = answer(clock.platform.request("POST", &format!("{path}/pause")), 200).await;
    assert_eq!((&paused["paused"], &paused["next_tick_at"]), (&json!(true), &Value::Null));
    let ran = answer(clock.platform.request("POST", &format!("{path}/run")), 202).await;
    let fires = clock.fires(&id).await;
    assert_eq!((&fires[0]["by_hand"], &fires[0]["job"]), (&json!(true), &ran["job"]));
    let job = clock.platform.get(&format!("/jobs/{}", text(&ran["job"]))).await;
    assert_eq!(job["payload"]["at"], fires[0]["tick"]);
    let resumed = answer(clock.platform.request("POST", &format!("{path}/resume")), 200).await;
    assert_eq!((&resumed["paused"], &resumed["next_tick_at"]), (&json!(false), &made["next_tick_at"]));

    // A change is in force at once, and keeps what became of ticks.
    let changed = answer(clock.platform.request("PUT", &path).json(&wanted("often", "* * * * * *")), 200).await;
    assert_eq!((&changed["name"], &changed["created_at"]), (&json!("often"), &made["created_at"]));
    assert!(clock.until(&id, 3).await[1..].iter().all(|fire| fire["by_hand"] == false));
    answer(clock.platform.request("POST", "/schedules").json(&wanted("nightly", "@daily")), 201).await;
    let taken = clock.platform.request("PUT", &path).json(&wanted("nightly", "@daily")).send().await.unwrap();
    assert_eq!(problem(taken, 409).await, "name_taken");

    answer(clock.platform.request("DELETE", &path), 204).await;
    for (method, path) in [("GET", path.clone()), ("DELETE", path.clone()), ("POST", format!("{path}/run"))] {
        assert_eq!(problem(clock.platform.request(method, &path).send().await.unwrap(), 404).await, "unknown_schedule");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_scheduled_is_refused_and_said_where() {
    let clock = Clock::open().await;
    let job = json!({"kind": "x.tick", "payload": {}});
    let with = |more: Value| {
        let mut wanted = json!({"name": "a", "cron": "@daily", "job": job});
        for (name, value) in more.as_object().unwrap() {
            wanted[name] = value.clone();
        }
        wanted
    };
    for (wanted, code, path) in [
        (with(json!({"cron": "61 * * * *"})), "invalid_request", "cron"),
        (with(json!({"cron": "@sometimes"})), "invalid_request", "cron"),
        (with(json!({"cron": null})), "invalid_request", "cron"),
        (with(json!({"every_s": 5})), "invalid_request", "every_s"),
        (with(json!({"cron": null, "every_s": 0})), "invalid_request", "every_s"),
        (with(json!({"time_zone": "Mars/Olympus"})), "invalid_request", "time_zone"),
        (with(json!({"jitter_s": 86_401})), "invalid_request", "jitter_s"),
        (with(json!({"missed_limit": 0})), "invalid_request", "missed_limit"),
        (with(json!({"name": ""})), "invalid_request", "name"),
        (with(json!({"name": "a\u{1}b"})), "invalid_request", "name"),
        (with(json!({"name": "n".repeat(51)})), "invalid_request", "name"),
        (with(json!({"tenant": "nowhere"})), "unknown_tenant", "tenant"),
        (
            with(json!({"starts_at": "2027-01-01T00:00:00Z", "ends_at": "2026-01-01T00:00:00Z"})),
            "invalid_request",
            "ends_at",
        ),
        (with(json!({"cron": "0 0 31 2 *"})), "invalid_request", "cron"),
        (with(json!({"ends_at": "2020-01-01T00:00:00Z"})), "invalid_request", "ends_at"),
        (with(json!({"cron": null, "every_s": 3_600, "ends_at": in_seconds(60)})), "invalid_request", "ends_at"),
        (with(json!({"overlap": "sometimes"})), "invalid_request", "overlap"),
        (with(json!({"job": {"kind": "x.unknown", "payload": {}}})), "unknown_kind", "job.kind"),
        (with(json!({"job": {"kind": "mail.notice", "payload": {}}})), "kind_internal", "job.kind"),
        (with(json!({"job": {"kind": "audio.extract", "payload": {"at": 1}}})), "invalid_payload", "job.payload"),
        (with(json!({"job": {"kind": "x.tick", "payload": {"at": "{{tock}}"}}})), "invalid_request", "job.payload"),
        (with(json!({"job": {"kind": "x.tick", "payload": {}, "tags": vec!["t"; 16]}})), "invalid_request", "job.tags"),
        (
            with(json!({"job": {"kind": "x.tick", "payload": {}, "policy": {"attempts": 0}}})),
            "invalid_request",
            "job.policy.attempts",
        ),
    ] {
        let answer = clock.platform.request("POST", "/schedules").json(&wanted).send().await.unwrap();
        let (status, found) = (answer.status(), answer.json::<Value>().await.unwrap());
        assert!(status.is_client_error(), "{wanted}: {found}");
        assert_eq!(found["code"], code, "{wanted}: {found}");
        assert!(found["errors"][0]["path"].as_str().unwrap().starts_with(path), "{wanted}: {found}");
    }
    answer(clock.platform.request("POST", "/schedules").json(&with(json!({}))), 201).await;
    let twice = clock.platform.request("POST", "/schedules").json(&with(json!({}))).send().await.unwrap();
    assert_eq!(problem(twice, 409).await, "name_taken");

    // Whoever may not submit jobs has none submitted.
    let key = json!({"name": "clock", "scopes": ["schedules:write"]});
    let key = answer(clock.platform.request("POST", "/keys").json(&key), 201).await;
    let wanted = with(json!({"name": "b"}));
    let poor = clock.platform.request_as(key["secret"].as_str().unwrap(), "POST", "/schedules").json(&wanted);
    assert_eq!(problem(poor.send().await.unwrap(), 403).await, "scope_missing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_that_has_run_out_may_stay_and_is_not_made_so() {
    let clock = Clock::open().await;
    let job = json!({"kind": "x.tick", "payload": {}});
    let mut wanted = json!({"name": "a", "every_s": 1, "ends_at": in_seconds(3), "job": job});
    let made = answer(clock.platform.request("POST", "/schedules").json(&wanted), 201).await;
    let path = format!("/schedules/{}", text(&made["id"]));
    eventually_async("it runs out", async || {
        let ticks = clock.platform.get(&format!("{path}/ticks")).await;
        (ticks["ticks"] == json!([])).then_some(())
    })
    .await;
    wanted["name"] = json!("b");
    let changed = answer(clock.platform.request("PUT", &path).json(&wanted), 200).await;
    assert_eq!(changed["name"], "b");
    wanted["ends_at"] = json!("2020-01-01T00:00:00Z");
    let refused = answer(clock.platform.request("PUT", &path).json(&wanted), 422).await;
    assert_eq!(refused["detail"], "ends_at: no tick would ever come");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_and_a_suspended_tenant_make_no_jobs_and_lose_no_schedule() {
    let clock = Clock::open().await;
    clock.platform.add_tenant("acme").await;
    let kind = json!({"summary": "Hears of a tick.", "payload_schema": {"type": "object"}, "tenant": "acme"});
    let admin = clock.platform.add_person("boss", "admin", Some("acme")).await;
    let mut registered = kind.clone();
    registered.as_object_mut().unwrap().remove("tenant");
    answer(clock.platform.request_as(&admin.token, "PUT", "/kinds/x.tick").json(&registered), 201).await;
    let id = clock.every_second("of acme", json!({"tenant": "acme"})).await;
    answer(clock.platform.request("PATCH", "/tenants/acme").json(&json!({"suspended": true})), 200).await;
    let _scheduler = clock.platform.scheduler();
    let fires = clock.until(&id, 2).await;
    assert_eq!(outcomes(&fires[..2]), ["skipped", "skipped"]);
    assert_eq!(fires[0]["error"], "the tenant is suspended");
    answer(clock.platform.request("PATCH", "/tenants/acme").json(&json!({"suspended": false})), 200).await;
    let fired = eventually_async("it goes on", async || {
        clock.fires(&id).await.into_iter().find(|fire| fire["outcome"] == "fired")
    })
    .await;
    let job = clock.platform.get(&format!("/jobs/{}", text(&fired["job"]))).await;
    assert_eq!(job["tenant"], "acme");

    // No room: the tick waits, and is made when there is.
    answer(clock.platform.request("PATCH", "/queues/external").json(&json!({"limit": 1})), 200).await;
    let full = clock.every_second("full", json!({})).await;
    eventually_async("it stands still", async || {
        let schedule = clock.schedule(&full).await;
        let late = schedule["next_tick_at"].as_str()?.parse::<jiff::Timestamp>().ok()?;
        (jiff::Timestamp::now().duration_since(late).as_secs() >= 2).then_some(())
    })
    .await;
    assert_eq!(clock.fires(&full).await, Vec::<Value>::new());
    answer(clock.platform.request("PATCH", "/queues/external").json(&json!({"limit": null})), 200).await;
    let fires = clock.until(&full, 4).await;
    let seconds = seconds(&fires);
    assert!(seconds.windows(2).all(|pair| pair[1] == pair[0] + 1), "{seconds:?}");
    assert!(outcomes(&fires).iter().all(|outcome| *outcome == "fired"));
}
