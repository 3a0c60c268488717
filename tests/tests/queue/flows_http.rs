//! Flows by HTTP and from the command line, on a platform without workers: the test ends the jobs.

use std::process::Command;

use fourmi_model::{JobId, QueueName, State};
use fourmi_queue::{Queues, Settlement, Transitions};
use fourmi_records::Records;
use fourmi_tests::{Platform, Program, eventually_async};
use serde_json::{Value, json};

use crate::{
    bench::{LEASE, succeeded},
    flows::failed,
};

struct Site {
    platform: Platform,
    queues: Queues,
    transitions: Transitions,
    file: Value,
}

impl Site {
    async fn new() -> Self {
        let platform = Platform::with(&[], 0).await;
        let queues = Queues::connect(&platform.redis.url()).await.unwrap();
        let queue: QueueName = "media".parse().unwrap();
        let transitions = Transitions::of(&queues, queue).await.unwrap();
        let file = json!(platform.upload_bytes("a.mp4", "not a film").await);
        Self { platform, queues, transitions, file }
    }

    /// A job of a flow.
    fn job(&self, name: &str, after: &[&str]) -> Value {
        let payload = json!({"source": {"upload": self.file}});
        json!({"name": name, "kind": "media.probe", "payload": payload, "after": after})
    }

    async fn post(&self, path: &str, body: &Value, key: Option<&str>) -> (u16, bool, Value) {
        let mut request = self.platform.request("POST", path).json(body);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let answer = request.send().await.unwrap();
        let replayed = answer.headers().contains_key("idempotency-replayed");
        (answer.status().as_u16(), replayed, answer.json().await.unwrap())
    }

    async fn submit(&self, flow: &Value) -> Value {
        let (status, _, answer) = self.post("/flows", flow, None).await;
        assert_eq!(status, 202, "{answer}");
        answer
    }

    async fn refused(&self, path: &str, body: &Value) -> (u16, String, String) {
        let (status, _, problem) = self.post(path, body, None).await;
        let place = problem["errors"][0]["path"].as_str().unwrap_or_default().to_owned();
        (status, problem["code"].as_str().unwrap().to_owned(), place)
    }

    /// Waits until a job is in this state.
    async fn until(&self, id: &Value, state: State) -> Value {
        let id: JobId = serde_json::from_value(id.clone()).unwrap();
        eventually_async(state.as_str(), async || {
            self.queues.get(&id).await.unwrap().filter(|job| job.state == state).map(drop)
        })
        .await;
        self.platform.get(&format!("/jobs/{id}")).await
    }

    /// Runs everything that can run; the job of that id fails.
    async fn run_all(&self, failing: Option<&Value>) {
        while self.run_some(failing).await {}
    }

    /// Runs the jobs that wait now; whether there were any.
    async fn run_some(&self, failing: Option<&Value>) -> bool {
        let claims = self.transitions.fetch("w1", 100, LEASE, false).await.unwrap().claims;
        let outcome = |claim: &fourmi_queue::Claim| match failing {
            Some(id) if *id == json!(claim.id) => failed(),
            _ => succeeded(),
        };
        let settlements: Vec<_> =
            claims.iter().map(|claim| Settlement { run: claim.key(), outcome: outcome(claim) }).collect();
        if settlements.is_empty() {
            return false;
        }
        self.transitions.settle(&settlements).await.unwrap();
        true
    }

    async fn total(&self) -> u64 {
        self.queues.counts(self.transitions.queue()).await.unwrap().0.values().sum()
    }
}

#[tokio::test]
async fn a_flow_runs_as_a_batch_and_the_api_alone_moves_it() {
    let site = Site::new().await;
    let flow = json!({
        "name": "night", "batch": true, "then": {"kind": "media.probe", "payload": {"source": {"upload": site.file}}},
        "jobs": [site.job("join", &["left", "right"]), site.job("left", &["source"]), site.job("right", &["source"]), site.job("source", &[])],
    });
    let accepted = site.submit(&flow).await;
    let id = |place: usize| &accepted["jobs"][place]["id"];
    assert_eq!(accepted["jobs"][0]["name"], "join");
    let batch = site.platform.get(&format!("/jobs/{}", accepted["batch"].as_str().unwrap())).await;
    assert_eq!(
        (&batch["kind"], &batch["state"], &batch["payload"]),
        (&json!("flow.batch"), &json!("blocked"), &json!({"name": "night", "jobs": 4}))
    );
    let counts = site.platform.client.queues().await.unwrap();
    let media = counts.iter().find(|queue| queue.name.as_str() == "media").unwrap();
    assert_eq!(media.counts[&State::Blocked], 5);

    for (places, after) in [(&[3][..], json!(null)), (&[1, 2], json!([id(3)])), (&[0], json!([id(1), id(2)]))] {
        for place in places {
            let job = site.until(id(*place), State::Waiting).await;
            assert_eq!((&job["after"], &job["batch"]), (&after, &accepted["batch"]));
        }
        // What these let go may wait at once, and is to be seen to.
        site.run_some(None).await;
    }
    site.until(&accepted["batch"], State::Succeeded).await;
    let then = site.until(&accepted["then"], State::Waiting).await;
    assert_eq!(then["after"], json!([accepted["batch"]]));

    let shown = site.platform.get(&format!("/flows/{}", id(0).as_str().unwrap())).await;
    assert_eq!((shown["jobs"].as_array().unwrap().len(), shown["cut"].as_bool()), (6, Some(false)));
    assert_eq!(shown["jobs"][0]["id"], *id(0));
    let ties = |tie: &str| shown["edges"].as_array().unwrap().iter().filter(|edge| edge["tie"] == tie).count();
    assert_eq!((ties("after"), ties("batch")), (5, 4));
}

#[tokio::test]
async fn the_cancel_of_a_batch_cancels_its_jobs_and_what_follows() {
    let site = Site::new().await;
    let jobs: Vec<_> = (0..20).map(|n| site.job(&format!("job {n}"), &[])).collect();
    let then = json!({"kind": "media.probe", "payload": {"source": {"upload": site.file}}});
    let accepted = site.submit(&json!({"batch": true, "jobs": jobs, "then": then})).await;
    let (status, _, batch) =
        site.post(&format!("/jobs/{}/cancel", accepted["batch"].as_str().unwrap()), &json!({}), None).await;
    assert_eq!((status, &batch["state"]), (200, &json!("cancelled")));
    site.until(&accepted["then"], State::Cancelled).await;
    assert_eq!(site.queues.counts(site.transitions.queue()).await.unwrap().0[&State::Cancelled], 22);
}

#[tokio::test]
async fn a_failure_cancels_what_follows_in_the_flow() {
    let site = Site::new().await;
    let mut careless = site.job("careless", &["a"]);
    careless["on_parent_failure"] = json!("run");
    let flow = json!({"jobs": [site.job("a", &[]), site.job("b", &["a"]), site.job("c", &["b"]), careless]});
    let accepted = site.submit(&flow).await;
    site.run_all(Some(&accepted["jobs"][0]["id"])).await;
    let cancelled = site.until(&accepted["jobs"][2]["id"], State::Cancelled).await;
    assert_eq!(cancelled["error"]["code"], "parent_failed");
    site.until(&accepted["jobs"][3]["id"], State::Waiting).await;
}

#[tokio::test]
async fn a_flow_that_cannot_be_is_refused_with_the_place_of_the_mistake() {
    let site = Site::new().await;
    let mut bad = site.job("b", &[]);
    bad["payload"]["colour"] = json!("red");
    let unknown = JobId::new("media".parse().unwrap()).to_string();
    let elsewhere = JobId::new("kitchen".parse().unwrap()).to_string();
    for (flow, code, place) in [
        (json!({"jobs": []}), "invalid_request", "jobs"),
        (json!({"jobs": [site.job("a", &["b"]), site.job("b", &["a"])]}), "cycle", "jobs[0].after[0]"),
        (json!({"jobs": [site.job("a", &["z"])]}), "unknown_parent", "jobs[0].after[0]"),
        (json!({"jobs": [site.job("a", &[]), site.job("b", &["a", &unknown])]}), "unknown_parent", "jobs[1].after[1]"),
        (json!({"jobs": [site.job("a", &[&elsewhere])]}), "unknown_parent", "jobs[0].after[0]"),
        (json!({"jobs": [site.job("a", &[]), site.job("a", &[])]}), "invalid_request", "jobs[1].name"),
        (json!({"jobs": [site.job("a", &[]), bad]}), "invalid_payload", "jobs[1].payload.colour"),
        (json!({"jobs": [site.job("a", &[])], "name": "x"}), "invalid_request", "name"),
        (json!({"jobs": [site.job("a", &[])], "then": site.job("t", &[])}), "invalid_request", "then"),
    ] {
        let refused = site.refused("/flows", &flow).await;
        assert_eq!(refused, (422, code.to_owned(), place.to_owned()), "{flow}");
    }
    let mut single = site.job("a", &[&unknown]);
    assert_eq!(site.refused("/jobs", &single).await.2, "name");
    single.as_object_mut().unwrap().remove("name");
    assert_eq!(site.refused("/jobs", &single).await, (422, "unknown_parent".to_owned(), "after[0]".to_owned()));
    assert_eq!(site.total().await, 0, "all is checked before the first is accepted");
}

#[tokio::test]
async fn a_flow_that_is_sent_again_is_completed_and_doubles_nothing() {
    let site = Site::new().await;
    let then = json!({"kind": "media.probe", "payload": {"source": {"upload": site.file}}});
    let flow = json!({"batch": true, "then": then, "jobs": [site.job("a", &[]), site.job("b", &["a"]), site.job("c", &["b"])]});
    let (_, replayed, first) = site.post("/flows", &flow, Some("key")).await;
    assert!(!replayed);
    let (status, replayed, again) = site.post("/flows", &flow, Some("key")).await;
    assert_eq!((status, replayed, &again, site.total().await), (202, true, &first, 5));
    let (_, _, other) = site.post("/flows", &flow, Some("another key")).await;
    assert_ne!(other["batch"], first["batch"]);

    // As if the server had died after the first job: the others are not there, and the first has run.
    let mut redis = site.platform.redis.connection();
    let () = redis::cmd("FLUSHALL").query(&mut redis).unwrap();
    let alone = json!({"jobs": [site.job("a", &[])]});
    let (_, _, part) = site.post("/flows", &alone, Some("key")).await;
    assert_eq!(part["jobs"][0], first["jobs"][0]);
    site.run_all(None).await;
    let (status, replayed, completed) = site.post("/flows", &flow, Some("key")).await;
    assert_eq!((status, replayed, &completed, site.total().await), (202, false, &first, 5));
    site.until(&first["jobs"][1]["id"], State::Waiting).await;

    let mut changed = flow.clone();
    changed["jobs"][1]["payload"] = json!({"source": {"upload": site.platform.upload_bytes("b.mp4", "another").await}});
    let (status, _, problem) = site.post("/flows", &changed, Some("key")).await;
    assert_eq!((status, &problem["code"]), (409, &json!("idempotency_conflict")));
    assert_eq!(site.total().await, 5);
}

#[tokio::test]
async fn a_job_that_only_its_record_remembers_can_be_followed() {
    let site = Site::new().await;
    let accepted = site.submit(&json!({"jobs": [site.job("good", &[]), site.job("bad", &[])]})).await;
    let (good, bad) = (&accepted["jobs"][0]["id"], &accepted["jobs"][1]["id"]);
    site.run_all(Some(bad)).await;
    let records = Records::open(&site.platform.data().join("records.db")).await.unwrap();
    eventually_async("both are recorded", async || (records.count().await.unwrap() == 2).then_some(())).await;
    site.transitions.trim(100, (0, 0)).await.unwrap();

    let mut job = site.job("x", &[good.as_str().unwrap()]);
    job.as_object_mut().unwrap().remove("name");
    let (status, _, kid) = site.post("/jobs", &job, None).await;
    assert_eq!((status, &kid["state"]), (202, &json!("waiting")), "{kid}");
    let kid_id: JobId = serde_json::from_value(kid["id"].clone()).unwrap();
    let after: Vec<JobId> = serde_json::from_value(kid["after"].clone()).unwrap();
    let parents = site.queues.parents(&kid_id, &after).await.unwrap();
    assert_eq!(parents[0].outcome.result, Some(json!({"ok": true})));

    job["after"] = json!([bad]);
    assert_eq!(site.refused("/jobs", &job).await, (422, "unknown_parent".to_owned(), "after[0]".to_owned()));
    job["on_parent_failure"] = json!("run");
    assert_eq!(site.post("/jobs", &job, None).await.0, 202);

    let shown = site.platform.get(&format!("/flows/{kid_id}")).await;
    assert_eq!((&shown["jobs"][1]["id"], &shown["jobs"][1]["archived"]), (good, &json!(true)));
    assert_eq!(shown["edges"].as_array().unwrap().len(), 1);
    assert_eq!(site.platform.get(&format!("/flows/{}", good.as_str().unwrap())).await["jobs"][0]["state"], "succeeded");
}

#[tokio::test]
async fn flows_are_submitted_and_shown_from_the_command_line() {
    let site = Site::new().await;
    let file = site.platform.data().join("flow.json");
    let flow = json!({"batch": true, "jobs": [site.job("a", &[]), site.job("b", &["a"])]});
    std::fs::write(&file, flow.to_string()).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(Program::path("fourmi"));
        command.args(arguments).env_clear().env("FOURMI_URL", site.platform.url());
        command.env("FOURMI_API_KEY_FILE", site.platform.data().join("api-key"));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let accepted: Value = serde_json::from_str(&run(&["flows", "submit", file.to_str().unwrap(), "--json"])).unwrap();
    let (a, b) = (accepted["jobs"][0]["id"].as_str().unwrap(), accepted["jobs"][1]["id"].as_str().unwrap());
    let batch = accepted["batch"].as_str().unwrap();
    let tree = run(&["flows", "show", b]);
    let lines: Vec<&str> = tree.lines().collect();
    let expected =
        [("", a, "waiting  media.probe"), ("  ", b, "blocked  media.probe"), ("", batch, "blocked  flow.batch")];
    assert_eq!(lines, expected.map(|(indent, id, rest)| format!("{indent}{id}  {rest}")));
    let payload = json!({"source": {"upload": site.file}}).to_string();
    let kid = run(&["submit", "media.probe", "--payload", &payload, "--after", b, "--on-parent-failure", "wait"]);
    let kid = site.platform.get(&format!("/jobs/{}", kid.trim())).await;
    assert_eq!((&kid["after"], &kid["on_parent_failure"]), (&json!([b]), &json!("wait")));
}
