//! Many jobs in one request.

use std::{convert::Infallible, time::Duration};

use fourmi_model::State;
use fourmi_tests::eventually_async;
use futures_util::StreamExt;
use reqwest::{Body, Response};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
};

use crate::{
    problem,
    site::{Site, job},
};

const NDJSON: &str = "application/x-ndjson";

impl Site {
    async fn send(&self, media_type: &str, body: impl Into<Body>) -> Response {
        let request = self.platform.request("POST", "/jobs/bulk").header("content-type", media_type);
        request.body(body).send().await.unwrap()
    }

    async fn lines(&self, lines: Vec<u8>) -> Vec<Value> {
        let answer = self.send(NDJSON, lines).await;
        assert_eq!((answer.status().as_u16(), answer.headers()["content-type"].to_str().unwrap()), (200, NDJSON));
        let text = answer.text().await.unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// The status of a result, and the code of its error or nothing.
fn outcome(result: &Value) -> (u64, &str) {
    let code = result["error"]["code"].as_str().unwrap_or_default();
    assert_eq!(result["id"].is_string(), code.is_empty(), "{result}");
    (result["status"].as_u64().unwrap(), code)
}

#[tokio::test]
async fn each_line_has_a_result_of_its_own() {
    let site = Site::new().await;
    let earlier = site.submit(&[job(json!({}))]).await.remove(0);
    let keyed = |url: &str| job(json!({"idempotency_key": "k", "payload": {"source": {"url": url}}}));
    let cases: Vec<(Vec<u8>, (u64, &str))> = vec![
        (job(json!({})).to_string().into(), (202, "")),
        (b"{\"kind\":".into(), (400, "invalid_json")),
        (b"{\"kind\":\"\xff\xfe\"}".into(), (400, "invalid_json")),
        (b"{} {}".into(), (422, "invalid_request")),
        (b"[]".into(), (422, "invalid_request")),
        (b"7".into(), (422, "invalid_request")),
        (job(json!({"kind": "no.such"})).to_string().into(), (422, "unknown_kind")),
        (job(json!({"payload": {"source": {}}})).to_string().into(), (422, "invalid_payload")),
        (job(json!({"surprise": 1})).to_string().into(), (422, "invalid_request")),
        (job(json!({"name": "a"})).to_string().into(), (422, "invalid_request")),
        (job(json!({"idempotency_key": ""})).to_string().into(), (422, "invalid_request")),
        (format!("\"{}\"", "x".repeat(300_000)).into(), (413, "payload_too_large")),
        (keyed("https://example.org/1").to_string().into(), (202, "")),
        (keyed("https://example.org/1").to_string().into(), (202, "")),
        (keyed("https://example.org/2").to_string().into(), (409, "idempotency_conflict")),
        (job(json!({"after": [earlier]})).to_string().into(), (202, "")),
        (
            job(json!({"after": ["media-0198c0de-0000-7000-8000-000000000001"]})).to_string().into(),
            (422, "unknown_parent"),
        ),
        (job(json!({"unique": {"until": "finished"}, "tags": ["u"]})).to_string().into(), (202, "")),
        (job(json!({"unique": {"until": "finished"}, "tags": ["u"]})).to_string().into(), (202, "")),
    ];
    let mut body = b"\n  \r\n".to_vec();
    for (line, _) in &cases {
        body.extend(line);
        body.extend(b"\r\n\n");
    }
    let results = site.lines(body).await;
    assert_eq!(results.len(), cases.len());
    for (place, ((line, expected), result)) in cases.iter().zip(&results).enumerate() {
        assert_eq!((result["index"].as_u64(), outcome(result)), (Some(place as u64), *expected), "{line:?}: {result}");
    }
    assert_eq!((&results[13]["id"], &results[13]["idempotency_replayed"]), (&results[12]["id"], &json!(true)));
    assert_eq!((&results[18]["id"], &results[18]["unique_conflict"]), (&results[17]["id"], &json!(true)));
    assert!(results[12]["idempotency_replayed"].is_null());
    assert_eq!(results[7]["error"]["errors"][0]["path"], "payload.source");
    assert_eq!(site.count(State::Waiting).await + site.count(State::Blocked).await, 5);
    let waits = site.platform.get(&format!("/jobs/{}", results[15]["id"].as_str().unwrap())).await;
    assert_eq!((&waits["state"], &waits["after"]), (&json!("blocked"), &json!([earlier])));
}

#[tokio::test]
async fn ten_thousand_lines_are_accepted_in_order_and_one_more_is_refused() {
    let site = Site::new().await;
    let line = |n: usize| job(json!({"tags": [format!("{n}")]})).to_string() + "\n";
    let results = site.lines((0..10_002).map(line).collect::<String>().into()).await;
    assert_eq!(results.len(), 10_001);
    for (place, result) in results[..10_000].iter().enumerate() {
        assert_eq!((result["index"].as_u64(), outcome(result)), (Some(place as u64), (202, "")));
    }
    assert_eq!(
        (results[10_000]["index"].as_u64(), outcome(&results[10_000])),
        (Some(10_000), (413, "payload_too_large"))
    );
    assert_eq!(site.count(State::Waiting).await, 10_000);
    for place in [0, 4_999, 9_999] {
        let job = site.platform.get(&format!("/jobs/{}", results[place]["id"].as_str().unwrap())).await;
        assert_eq!(job["tags"], json!([format!("{place}")]));
    }
}

#[tokio::test]
async fn an_array_has_one_answer_or_one_problem() {
    let site = Site::new().await;
    let jobs = json!([job(json!({})), {"kind": "no.such", "payload": {}}, 7, job(json!({"not_before": "2099-01-01T00:00:00Z"}))]);
    let answer = site.post("/jobs/bulk", &jobs).await;
    assert_eq!(
        (answer.status().as_u16(), answer.headers()["content-type"].to_str().unwrap()),
        (200, "application/json")
    );
    let answer: Value = answer.json().await.unwrap();
    assert_eq!((&answer["accepted"], &answer["refused"]), (&json!(2), &json!(2)));
    let outcomes: Vec<_> = answer["results"].as_array().unwrap().iter().map(outcome).collect();
    assert_eq!(outcomes, [(202, ""), (422, "unknown_kind"), (422, "invalid_request"), (202, "")]);
    let empty: Value = site.post("/jobs/bulk", &json!([])).await.json().await.unwrap();
    assert_eq!(empty, json!({"accepted": 0, "refused": 0, "results": []}));
    assert_eq!(site.lines(Vec::new()).await, [json!(null); 0]);

    let one = job(json!({})).to_string();
    let many = format!("[{}]", vec!["{}"; 10_001].join(","));
    let (large, too_large) = (vec![b' '; 9 * 1024 * 1024], vec![b' '; 65 * 1024 * 1024]);
    for (media_type, body, status, code) in [
        ("application/json", format!("[{one}, ").into_bytes(), 400, "invalid_json"),
        ("application/json", b"[\"\xff\"]".to_vec(), 400, "invalid_json"),
        ("application/json", one.clone().into_bytes(), 422, "invalid_request"),
        ("application/json", many.into_bytes(), 422, "invalid_request"),
        ("application/json", large, 413, "payload_too_large"),
        (NDJSON, too_large, 413, "payload_too_large"),
        ("text/plain", one.into_bytes(), 415, "unsupported_media_type"),
    ] {
        assert_eq!(problem(site.send(media_type, body).await, status).await, code);
    }
    let picky =
        site.platform.request("POST", "/jobs/bulk").header("content-type", NDJSON).header("accept", "application/json");
    assert_eq!(problem(picky.body("{}").send().await.unwrap(), 406).await, "not_acceptable");
    assert_eq!(site.count(State::Waiting).await, 1, "a request that is refused changes nothing");
}

#[tokio::test]
async fn a_request_with_a_key_may_be_sent_again() {
    let site = Site::new().await;
    let jobs = json!([job(json!({})), job(json!({})), job(json!({"idempotency_key": "own", "idempotency_ttl_s": 60}))]);
    let send = async || {
        let request = site.platform.request("POST", "/jobs/bulk").header("idempotency-key", "night");
        let answer: Value = request.json(&jobs).send().await.unwrap().json().await.unwrap();
        let results = answer["results"].as_array().unwrap().clone();
        results.into_iter().map(|it| (it["id"].clone(), it["idempotency_replayed"] == true)).collect::<Vec<_>>()
    };
    let (first, second) = (send().await, send().await);
    assert!(first.iter().all(|(_, replayed)| !replayed) && second.iter().all(|(_, replayed)| *replayed));
    assert_eq!(site.count(State::Waiting).await, 3);
    assert!(first.iter().zip(&second).all(|((one, _), (other, _))| one == other));
    // The key of a job is one like any other.
    let mut alone = site.platform.request("POST", "/jobs").header("idempotency-key", "own");
    alone = alone.json(&job(json!({})));
    let answer = alone.send().await.unwrap();
    assert_eq!(answer.headers()["idempotency-replayed"], "true");
    let differs = site.platform.request("POST", "/jobs").header("idempotency-key", "other");
    let differs = differs.json(&job(json!({"idempotency_key": "own"}))).send().await.unwrap();
    assert_eq!(problem(differs, 422).await, "invalid_request");
}

#[tokio::test]
async fn results_come_as_lines_do_and_what_redis_does_not_answer_for_is_refused() {
    let site = Site::new().await;
    let (lines, sent) = mpsc::unbounded_channel::<String>();
    let body = futures_util::stream::unfold(sent, |mut sent| async {
        sent.recv().await.map(|line| (Ok::<_, Infallible>(line), sent))
    });
    let line = job(json!({})).to_string() + "\n";
    lines.send(line.repeat(2)).unwrap();
    let answer = site.send(NDJSON, Body::wrap_stream(body)).await;
    let mut pieces = answer.bytes_stream();
    let mut read = Vec::new();
    let mut results = async |count: usize| {
        let lines = |read: &[u8]| read.iter().filter(|byte| **byte == b'\n').count();
        while lines(&read) < count {
            read.extend(pieces.next().await.unwrap().unwrap());
        }
        let text = String::from_utf8(read.clone()).unwrap();
        text.lines().map(|line| outcome(&serde_json::from_str(line).unwrap()).0).collect::<Vec<_>>()
    };
    assert_eq!(results(2).await, [202, 202]);

    let mut redis = site.platform.redis;
    redis.kill();
    lines.send(line.repeat(2)).unwrap();
    assert_eq!(results(4).await, [202, 202, 503, 503]);
    // It is not asked again: that would take as long once more.
    lines.send("nonsense\n".to_owned() + &line).unwrap();
    assert_eq!(results(6).await, [202, 202, 503, 503, 503, 503]);
    drop(lines);
    redis.restart();
    eventually_async("the accepted ones are there", async || {
        let counts = site.queues.counts(site.transitions.queue()).await.ok()?;
        (counts.0[&State::Waiting] == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn of_a_connection_that_breaks_whole_lines_count() {
    let site = Site::new().await;
    let key = std::fs::read_to_string(site.platform.data().join("api-key")).unwrap();
    let mut socket = TcpStream::connect(site.platform.url().trim_start_matches("http://")).await.unwrap();
    let head = format!(
        "POST /api/v1/jobs/bulk HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: {NDJSON}\r\n\
         transfer-encoding: chunked\r\n\r\n",
        key.trim()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let line = job(json!({})).to_string();
    // The last is whole, as JSON; but nobody can know that.
    let chunk = format!("{line}\n{line}\n{line}");
    socket.write_all(format!("{:x}\r\n{chunk}\r\n", chunk.len()).as_bytes()).await.unwrap();
    let mut begin = [0; 64];
    assert!(socket.read(&mut begin).await.unwrap() > 0, "the answer begins");
    drop(socket);
    eventually_async("the two lines", async || (site.count(State::Waiting).await == 2).then_some(())).await;
    // What would have been taken along is there by now.
    tokio::task::yield_now().await;
    site.platform.get("/health").await;
    assert_eq!(site.count(State::Waiting).await, 2);
}

#[tokio::test]
async fn the_client_submits_many_and_says_what_became_of_each() {
    let site = Site::new().await;
    let client = &site.platform.client;
    let payload = json!({"source": {"url": "https://example.org/a.mp4"}});
    let mut many = client.submit_many().idempotency_key("k");
    for n in 0..2_000 {
        let kind = if n == 7 { "no.such" } else { "audio.extract" };
        many = many.job(client.submit_raw(kind, payload.clone()).tag(format!("{n}")));
    }
    let results = many.json("{\n\"kind\": 7}").json("nonsense").send().await.unwrap();
    assert_eq!(results.len(), 2_002);
    let code = |place: usize| results[place].as_ref().unwrap_err().problem().unwrap().code.clone();
    assert_eq!([code(7), code(2_000), code(2_001)], ["unknown_kind", "invalid_request", "invalid_json"]);
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1_999);
    let job = client.job(&results[1_999].as_ref().unwrap().id).await.unwrap();
    assert_eq!((job.tags, job.state), (vec!["1999".to_owned()], State::Waiting));
    assert!(job.created_at.duration_since(jiff::Timestamp::now()).abs() < jiff::SignedDuration::from_secs(60));
    let again = client.submit_many().idempotency_key("k").job(client.submit_raw("audio.extract", payload).tag("0"));
    assert!(
        tokio::time::timeout(Duration::from_secs(30), again.send()).await.unwrap().unwrap()[0]
            .as_ref()
            .unwrap()
            .replayed
    );
}
