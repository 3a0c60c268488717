//! Figures, as Prometheus and its tools read them.

use std::path::Path;

use fourmi_model::{HealthStatus, State};
use fourmi_records::{Met, NewSms, ProviderCheck, Records, SmsBegin};
use fourmi_tests::{
    Platform, Program, PrometheusServer, Recording, eventually_async,
    kinds::{Fail, Hold, MANY, Misbehave, Misdeed, Steps},
    promtool,
};
use jiff::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::yard::{Yard, queue};

const TOKEN: &str = "a-token-of-the-tests";

fn rules() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/prometheus"))
}

fn shown_at(worker: &Program) -> String {
    let line = worker.wait_for_line("figures are shown");
    line.split("address=").nth(1).unwrap().trim().to_owned()
}

async fn page_of(address: &str) -> String {
    let answer = reqwest::Client::new().get(format!("http://{address}/metrics")).bearer_auth(TOKEN).send();
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    answer.text().await.unwrap()
}

async fn page_of_api(platform: &Platform) -> String {
    let answer = platform.open_request("GET", "/metrics").bearer_auth(platform.key()).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.text().await.unwrap()
}

/// The value of a series, written as it stands on the page.
fn value(page: &str, series: &str) -> Option<f64> {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    Some(line.parse().unwrap())
}

fn assert_value(page: &str, series: &str, expected: f64) {
    assert_eq!(value(page, series), Some(expected), "{series} in:\n{page}");
}

/// A key that may do this and nothing else.
async fn key_for(platform: &Platform, scope: &str) -> String {
    let made = platform.request("POST", "/keys").json(&json!({"name": "monitoring", "scopes": [scope]}));
    made.send().await.unwrap().json::<Value>().await.unwrap()["secret"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prometheus_watches_the_api_and_a_worker() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, TOKEN).unwrap();
    let file = file.to_str().unwrap();
    let settings = [("FOURMI_METRICS_LISTEN", "127.0.0.1:0"), ("FOURMI_METRICS_TOKEN_FILE", file)];
    let platform = Platform::with(&settings, 1).await;
    let worker = shown_at(&platform.workers[0]);
    let key = key_for(&platform, "metrics:read").await;
    let address = platform.url().trim_start_matches("http://");
    let targets = [("fourmi-api", address, key.as_str()), ("fourmi-workers", &worker, TOKEN)];
    let prometheus = PrometheusServer::start(&targets, &rules().join("rules.yaml"));

    let recording = platform.upload(&Recording::default().make(folder.path(), "a.mp4")).await;
    let extracted = platform.run("audio.extract", recording, json!({"format": "opus"})).await;
    assert_eq!(extracted.state, State::Succeeded, "{extracted:?}");
    let noise = platform.upload_bytes("noise.mp4", "this is no recording").await;
    assert_eq!(platform.run("media.probe", noise, json!({})).await.state, State::Failed);

    prometheus.shows("min(up)", 1.0).await;
    prometheus.shows(r#"fourmi_job_run_seconds_count{kind="audio.extract", outcome="succeeded"}"#, 1.0).await;
    prometheus.shows(r#"fourmi_job_run_seconds_count{kind="media.probe", outcome="failed"}"#, 1.0).await;
    prometheus.shows(r#"fourmi_job_wait_seconds_count{queue="media", kind="media.probe"}"#, 1.0).await;
    prometheus.shows(r#"fourmi_job_stage_seconds_count{kind="audio.extract", stage="transcode"}"#, 1.0).await;
    prometheus.shows(r#"fourmi_queue_dead_letters_total{queue="media"}"#, 1.0).await;
    prometheus.shows(r#"fourmi_queue_jobs{queue="media", state="failed"}"#, 1.0).await;
    prometheus.shows(r#"fourmi_queue_workers{queue="media"}"#, 1.0).await;
    prometheus.shows("min(fourmi_redis_up)", 1.0).await;
    prometheus.shows("fourmi_records_up", 1.0).await;
    let submitted = r#"fourmi_http_request_duration_seconds_count{method="POST", route="/api/v1/jobs", status="202"}"#;
    prometheus.shows(submitted, 2.0).await;

    let loaded = eventually_async("the rules are evaluated", async || {
        let groups = prometheus.get("/rules", &[]).await["groups"].clone();
        let all: Vec<Value> =
            groups.as_array()?.iter().flat_map(|it| it["rules"].as_array().unwrap().clone()).collect();
        all.iter().all(|rule| rule["health"] != "unknown").then_some(all)
    })
    .await;
    assert!(loaded.len() > 20 && loaded.iter().all(|rule| rule["health"] == "ok"), "{loaded:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tools_of_prometheus_find_nothing_wrong() {
    promtool(&["check", "rules", "rules.yaml"], rules(), "");
    promtool(&["test", "rules", "rules.test.yaml"], rules(), "");
    promtool(&["check", "config", "--syntax-only", "prometheus.yaml"], rules(), "");

    let settings = [("FOURMI_METRICS_LISTEN", "127.0.0.1:0"), ("FOURMI_METRICS_TOKEN", TOKEN)];
    let platform = Platform::with(&settings, 1).await;
    let noise = platform.upload_bytes("noise.mp4", "this is no recording").await;
    platform.run("media.probe", noise, json!({})).await;
    promtool(&["check", "metrics"], rules(), &page_of_api(&platform).await);
    promtool(&["check", "metrics"], rules(), &page_of(&shown_at(&platform.workers[0])).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_are_for_those_who_may_see_them() {
    let yard = Yard::new().await;
    let listen = ("FOURMI_METRICS_LISTEN", "127.0.0.1:0");
    let mut silent = yard.starting(&[listen]);
    assert!(!silent.wait().success());
    silent.wait_for_line("FOURMI_METRICS_TOKEN is not set");

    let worker = yard.worker(&[listen, ("FOURMI_METRICS_TOKEN", TOKEN)]);
    let address = shown_at(&worker);
    let http = reqwest::Client::new();
    let ask = async |method: &str, path: &str, shown: Option<&str>| {
        let request = http.request(method.parse().unwrap(), format!("http://{address}{path}"));
        let request = shown.into_iter().fold(request, |request, token| request.bearer_auth(token));
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap().len())
    };
    assert_eq!(ask("GET", "/metrics", Some(TOKEN)).await.0, 200);
    assert_eq!(ask("HEAD", "/metrics", Some(TOKEN)).await, (200, 0));
    for (method, path, shown, status) in [
        ("GET", "/metrics", None, 401),
        ("GET", "/metrics", Some("a-token-of-others"), 401),
        ("GET", "/metrics", Some("a-token-of-the-test"), 401),
        ("POST", "/metrics", Some(TOKEN), 405),
        ("GET", "/", Some(TOKEN), 404),
    ] {
        let (found, length) = ask(method, path, shown).await;
        assert!(found == status && length < 100, "{method} {path} {shown:?}: {found}");
    }

    // The port is taken: another process of the machine takes the next.
    let other = yard.worker(&[("FOURMI_METRICS_LISTEN", &address), ("FOURMI_METRICS_TOKEN", TOKEN)]);
    let other = shown_at(&other);
    assert!(other != address && page_of(&other).await.contains("fourmi_worker_slots"), "{other}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_tells_what_came_of_runs() {
    let yard = Yard::new().await;
    let settings = [("FOURMI_METRICS_LISTEN", "127.0.0.1:0"), ("FOURMI_METRICS_TOKEN", TOKEN), ("FOURMI_SLOTS", "3")];
    let mut worker = yard.worker(&settings);
    let address = shown_at(&worker);
    let failing = yard.push(&Fail { times: 1, ..Fail::default() }).await;
    yard.ends(&failing, State::Succeeded).await;
    let hopeless = yard.push(&Fail { times: 9, permanent: true, ..Fail::default() }).await;
    yard.ends(&hopeless, State::Failed).await;
    let journal = yard.data.path().join("journal");
    let crashing = yard.push(&Misbehave { how: Misdeed::Abort, journal: journal.clone() }).await;
    yard.ends(&crashing, State::Failed).await;
    let stepping = yard.push(&Steps { gate: None }).await;
    yard.ends(&stepping, State::Succeeded).await;
    let stranger = yard.push_named("test.unheard_of").await;
    yard.until(&stranger, |job| job.error.is_some()).await;

    let page = page_of(&address).await;
    for (kind, outcome, count) in [
        ("test.fail", "retrying", 1.0),
        ("test.fail", "succeeded", 1.0),
        ("test.fail", "failed", 1.0),
        ("test.misbehave", "crashed", 3.0),
        ("other", "misdirected", 1.0),
    ] {
        let series = format!(r#"fourmi_job_run_seconds_count{{queue="test",kind="{kind}",outcome="{outcome}"}}"#);
        assert_value(&page, &series, count);
    }
    assert_value(&page, r#"fourmi_job_wait_seconds_count{queue="test",kind="test.fail"}"#, 3.0);
    assert_value(&page, r#"fourmi_job_stage_seconds_count{queue="test",kind="test.steps",stage="step"}"#, 1.0);
    assert_value(&page, "fourmi_worker_slots", 3.0);
    assert_value(&page, "fourmi_redis_up", 1.0);
    assert!(!page.contains("unheard_of"), "{page}");

    // What waits for its retry does not wait for a worker.
    let patient = yard.push(&Fail { times: 1, after_ms: Some(1_200), ..Fail::default() }).await;
    yard.ends(&patient, State::Succeeded).await;
    let waited = value(&page_of(&address).await, r#"fourmi_job_wait_seconds_sum{queue="test",kind="test.fail"}"#);
    assert!(waited.unwrap() < 1.0, "{waited:?}");

    let held = yard.push(&Hold { journal: journal.clone(), gate: yard.data.path().join("gate"), polite: true }).await;
    yard.until(&held, |job| job.state == State::Running).await;
    worker.kill();
    let _next = yard.worker(&[]);
    yard.until(&held, |job| job.run == 2).await;
    let totals = yard.queues.figures(&queue()).await.unwrap().totals;
    assert_eq!((totals.retries, totals.crashes, totals.dead, totals.reclaimed), (4, 3, 2, 1));
    assert!(totals.started >= 12, "{totals:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_fifty_kinds_has_its_series() {
    let yard = Yard::new().await;
    let many = ("TEST_WORKER_KNOWS_MANY", "1");
    let worker = yard.worker(&[("FOURMI_METRICS_LISTEN", "127.0.0.1:0"), ("FOURMI_METRICS_TOKEN", TOKEN), many]);
    let address = shown_at(&worker);
    let mut jobs = Vec::new();
    for kind in MANY {
        jobs.push(yard.push_named(kind).await);
    }
    for job in &jobs {
        yard.ends(job, State::Succeeded).await;
    }
    let page = page_of(&address).await;
    for kind in MANY {
        let series = format!(r#"fourmi_job_run_seconds_count{{queue="test",kind="{kind}",outcome="succeeded"}}"#);
        assert_value(&page, &series, 1.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_counts_requests_streams_and_limits_without_end() {
    let mut platform = Platform::with(&[("FOURMI_RATE_LIMITS", "submit:media.probe=1/3600")], 0).await;
    for n in 0..40 {
        let strange = platform.open_request("GET", &format!("/api/v1/nowhere-{n}")).send().await.unwrap();
        assert_eq!(strange.status(), 404);
    }
    let odd = platform.open_request("BREW", "/api/v1/jobs").send().await.unwrap();
    assert!(odd.status().is_client_error(), "{odd:?}");
    let source = json!({"source": {"upload": "file-6f9619ff8b86d011b42d00c04fc964ff"}});
    assert_eq!(platform.submit("media.probe", source.clone()).await.status(), 422);
    assert_eq!(platform.submit("media.probe", source).await.status(), 429);
    let stream = platform.request("GET", "/events").send().await.unwrap();
    assert_eq!(stream.status(), 200);

    let page = page_of_api(&platform).await;
    let unknown = r#"fourmi_http_request_duration_seconds_count{method="GET",route="other",status="404"}"#;
    assert_value(&page, unknown, 40.0);
    assert!(!page.contains("nowhere") && !page.contains("BREW"), "{page}");
    assert_value(&page, r#"fourmi_limit_hits_total{limit="kind"}"#, 1.0);
    assert_value(&page, "fourmi_sse_streams", 1.0);
    assert_value(&page, "fourmi_records_up", 1.0);
    assert!(value(&page, "fourmi_records_connections_max").unwrap() >= 1.0, "{page}");
    assert!(value(&page, "process_cpu_seconds_total").is_some() && value(&page, "fourmi_files_free_bytes").is_some());
    drop(stream);
    eventually_async("the stream is closed", async || {
        (value(&page_of_api(&platform).await, "fourmi_sse_streams") == Some(0.0)).then_some(())
    })
    .await;

    // Without Redis there are figures too, and they say so.
    platform.redis.kill();
    eventually_async("Redis is missed", async || {
        let page = page_of_api(&platform).await;
        (value(&page, "fourmi_redis_up") == Some(0.0) && !page.contains("fourmi_queue_jobs")).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_tells_how_providers_are_and_what_they_cost() {
    let platform = Platform::with(&[], 0).await;
    let page = page_of_api(&platform).await;
    assert!(!page.contains("fourmi_provider_up{"), "nobody is known: {page}");

    let records = Records::open(&platform.data().join("records.db")).await.unwrap();
    let now = Timestamp::now();
    let met = Met { answers: 7, latency_ms: Some(250), credits: Some(98_500), ..Met::default() };
    records.note_provider("sms", &met, now).await.unwrap();
    let down = Met { outages: 5, down_since: Some(now), ..Met::default() };
    records.note_provider("fcm", &down, now).await.unwrap();
    let check = ProviderCheck { at: now, status: HealthStatus::Degraded, message: None, latency_ms: 3 };
    records.note_provider_check("sms", &check, Some(3_000)).await.unwrap();
    for (number, tenant) in [(1, None), (2, Some("kiosks".parse().unwrap()))] {
        let new = NewSms {
            job: format!("messaging-0198c0de-0000-7000-8000-00000000000{number}").parse().unwrap(),
            run: 1,
            tenant,
            account: "sms".to_owned(),
            recipient: "+33612345678".to_owned(),
            tag: number.to_string(),
            credits: 1_500 * number,
            limit: None,
            number_limits: Vec::new(),
            now,
        };
        assert!(matches!(records.begin_sms(&new).await.unwrap(), SmsBegin::Send(_)));
    }

    let page = page_of_api(&platform).await;
    for (series, expected) in [
        (r#"fourmi_provider_up{account="sms"}"#, 1.0),
        (r#"fourmi_provider_up{account="fcm"}"#, 0.0),
        (r#"fourmi_provider_requests_total{account="sms",outcome="answered"}"#, 7.0),
        (r#"fourmi_provider_requests_total{account="fcm",outcome="outage"}"#, 5.0),
        (r#"fourmi_provider_latency_seconds{account="sms"}"#, 0.25),
        (r#"fourmi_provider_credits{account="sms"}"#, 3.0),
        (r#"fourmi_provider_check_ok{account="sms"}"#, 0.0),
        (r#"fourmi_provider_spent_credits{account="sms",tenant=""}"#, 1.5),
        (r#"fourmi_provider_spent_credits{account="sms",tenant="kiosks"}"#, 3.0),
    ] {
        assert_value(&page, series, expected);
    }
    let checked = value(&page, r#"fourmi_provider_checked_timestamp_seconds{account="sms"}"#).unwrap();
    assert!((checked - now.as_millisecond() as f64 / 1_000.0).abs() < 1.0, "{checked}");
    assert!(!page.contains(r#"fourmi_provider_check_ok{account="fcm"}"#), "it was never checked: {page}");
    promtool(&["check", "metrics"], rules(), &page);
}
