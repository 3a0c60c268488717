//! The platform by HTTP, with real recordings: the main path, bad input, what is killed under it, streams.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

use std::time::{Duration, Instant};

use fourmi_client::Update;
use fourmi_kinds::{AudioExtracted, MediaInfo};
use fourmi_model::{Failure, Job, JobId, LogEntry, LogLevel, ParkReason, State};
use fourmi_queue::{Outcome, Queues, Run, Settlement, Transitions};
use fourmi_tests::{Platform, Recording, eventually_async, long_recording};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(60);

/// The `code` of a problem, after checking that it is one.
async fn problem(answer: reqwest::Response, status: u16) -> String {
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    assert_eq!(answer.status(), status);
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["status"], status);
    for field in ["type", "title", "detail"] {
        assert!(body[field].as_str().is_some_and(|text| !text.is_empty()), "{body}");
    }
    body["code"].as_str().unwrap().to_owned()
}

fn error_code(job: &Job) -> &str {
    &job.error.as_ref().expect("the job failed").code
}

#[tokio::test]
async fn the_sound_of_a_recording_comes_back_as_a_file() {
    let platform = Platform::start().await;
    let folder = TempDir::new().unwrap();
    let recording = Recording::default().make(folder.path(), "séance.mp4");
    let file = platform.upload(&recording).await;

    let job = platform.run("audio.extract", file, json!({"format": "mp3", "bitrate_kbps": 96})).await;
    assert_eq!(job.state, State::Succeeded, "{:?}", job.error);
    let result: AudioExtracted = serde_json::from_value(job.result.unwrap()).unwrap();
    assert!(result.duration_ms.abs_diff(6_000) < 100);
    assert_eq!((result.codec.name.as_str(), result.codec.copied), ("mp3", false));
    assert_eq!(result.tags["title"], "Séance publique");
    assert_eq!(result.chapters.len(), 2);
    assert_eq!(result.chapters[1].title, "Débat");

    let audio = &result.files[0];
    assert_eq!((audio.name.as_str(), audio.media_type.as_str()), ("séance.mp3", "audio/mpeg"));
    let down = folder.path().join("down.mp3");
    platform.client.download(audio.file).sha256(&audio.sha256).to(&down).await.unwrap();
    assert_eq!(std::fs::metadata(&down).unwrap().len(), audio.bytes);

    // What comes out can go in again.
    let probed = platform.run("media.probe", audio.file, json!({})).await;
    let info: MediaInfo = serde_json::from_value(probed.result.unwrap()).unwrap();
    assert_eq!((info.streams[0].codec.as_str(), info.chapters.len()), ("mp3", 2));
    platform.nothing_is_left().await;
}

#[tokio::test]
async fn a_file_is_served_in_parts_with_its_name_and_only_when_it_changed() {
    let platform = Platform::with(&[], 0).await;
    let file = platform.upload_bytes("caf%C3%A9.txt", "0123456789").await;
    let path = format!("/files/{file}");
    let get = async |headers: &[(&str, &str)]| {
        let mut request = platform.request("GET", &path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap()
    };
    let whole = get(&[]).await;
    let tag = whole.headers()["etag"].to_str().unwrap().to_owned();
    assert!(tag.starts_with('"') && whole.headers()["accept-ranges"] == "bytes");
    let disposition = whole.headers()["content-disposition"].to_str().unwrap().to_owned();
    assert!(disposition.contains("filename*=UTF-8''caf%C3%A9.txt"), "{disposition}");
    assert_eq!(whole.text().await.unwrap(), "0123456789");

    let part = get(&[("range", "bytes=2-4")]).await;
    assert_eq!((part.status().as_u16(), part.headers()["content-range"].to_str().unwrap()), (206, "bytes 2-4/10"));
    assert_eq!(part.text().await.unwrap(), "234");
    assert_eq!(get(&[("range", "bytes=-3")]).await.text().await.unwrap(), "789");
    assert_eq!(get(&[("range", "bytes=20-")]).await.status(), 416);
    assert_eq!(get(&[("range", "bytes=2-4"), ("if-range", &tag)]).await.status(), 206);
    assert_eq!(get(&[("range", "bytes=2-4"), ("if-range", "\"other\"")]).await.status(), 200);
    assert_eq!(get(&[("if-none-match", &tag)]).await.status(), 304);
    let head = platform.request("HEAD", &path).send().await.unwrap();
    assert_eq!(head.headers()["content-length"], "10");
    assert_eq!(platform.request("DELETE", &path).send().await.unwrap().status(), 204);
    assert_eq!(problem(get(&[]).await, 404).await, "unknown_file");
}

#[tokio::test]
async fn several_ranges_come_at_once_also_by_a_link_which_no_log_shows() {
    let platform = Platform::with(&[("FOURMI_LOG", "trace")], 0).await;
    let file = platform.upload_bytes("talk.bin", "0123456789").await;
    let link = platform.client.link(file, Duration::from_secs(60), false).await.unwrap();
    let path = link.url.strip_prefix(platform.url()).unwrap();
    let parts = platform.open_request("GET", path).header("range", "bytes=-2,0-1,1-2").send().await.unwrap();
    assert_eq!(parts.status(), 206);
    let media_type = parts.headers()["content-type"].to_str().unwrap().to_owned();
    let boundary = media_type.strip_prefix("multipart/byteranges; boundary=").unwrap();
    let part = |range: &str, content: &str| {
        format!(
            "--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Range: bytes {range}/10\r\n\r\n{content}\r\n"
        )
    };
    let expected = part("8-9", "89") + &part("0-2", "012") + &format!("--{boundary}--\r\n");
    assert_eq!(parts.text().await.unwrap(), expected);

    let signature = path.split("signature=").nth(1).unwrap();
    let wrong = platform.open_request("GET", &path.replace(signature, "AAAA")).send().await.unwrap();
    assert_eq!(problem(wrong, 403).await, "link_invalid");
    let (_, query) = path.split_once('?').unwrap();
    let delete = platform.open_request("DELETE", &format!("/api/v1/files/{file}?{query}"));
    assert_eq!(problem(delete.send().await.unwrap(), 401).await, "unauthorized");
    // The last of them; every line about a link came before it.
    platform.api.wait_for_line("http.method=\"DELETE\"");
    let lines = platform.api.lines().join("\n");
    assert!(lines.contains("api/v1/files/{id}/content/{name}") && !lines.contains(signature));
    use std::os::unix::fs::PermissionsExt;
    let about = std::fs::metadata(platform.data().join("link-key")).unwrap();
    assert_eq!(about.permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn every_route_but_health_documents_and_the_way_in_asks_for_the_key() {
    // What one needs before one is known; it wants a body.
    let ways_in =
        ["register", "resend_confirmation", "confirm_email", "login", "refresh", "forgot_password", "reset_password"];
    // What is shown in their address was given out for them alone.
    let by_token = ["ask_to_unsubscribe", "unsubscribe", "take_sms_receipt"];
    let platform = Platform::with(&[("FOURMI_RATE_LIMITS", "guess=off,login=off,open=off")], 0).await;
    let document: Value =
        platform.open_request("GET", "/api/v1/openapi.json").send().await.unwrap().json().await.unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let mut asked = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            if !["get", "post", "put", "delete", "head", "patch"].contains(&method.as_str()) {
                continue;
            }
            let path = path.replace("{id}", "x").replace("{name}", "x").replace("{queue}", "x");
            let answer = platform.open_request(&method.to_uppercase(), &path).send().await.unwrap();
            let id = operation["operationId"].as_str().unwrap();
            let is_way_in = ways_in.contains(&id);
            if operation["security"].as_array().is_some_and(Vec::is_empty) {
                let status = answer.status().as_u16();
                let expected = match id {
                    _ if is_way_in => 400..402,
                    id if by_token.contains(&id) => 403..405,
                    _ => 200..300,
                };
                assert!(expected.contains(&status), "{method} {path}: {status}");
            } else {
                assert!(!is_way_in, "{method} {path}");
                assert_eq!(answer.status(), 401, "{method} {path}");
                assert_eq!(answer.headers()["www-authenticate"], "Bearer");
                asked += 1;
            }
        }
    }
    assert!(asked >= 12, "{asked} routes ask for a key");
    for key in ["", "wrong", "fourmi_0000000000000000000000000000000000000000000"] {
        let request = platform.open_request("GET", "/api/v1/jobs").bearer_auth(key);
        assert_eq!(problem(request.send().await.unwrap(), 401).await, "unauthorized");
    }
    let mode = |name: &str| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::metadata(platform.data().join(name)).unwrap().permissions().mode() & 0o777
    };
    assert_eq!(mode("api-key"), 0o600);
    let key = std::fs::read_to_string(platform.data().join("api-key")).unwrap();
    assert!(!platform.api.lines().join("\n").contains(key.trim()));
}

#[tokio::test]
async fn what_cannot_be_extracted_says_why() {
    let platform = Platform::with(&[("FOURMI_SLOTS", "2")], 1).await;
    let folder = TempDir::new().unwrap();
    let good = std::fs::read(Recording::default().make(folder.path(), "good.mp4")).unwrap();
    let silent = Recording { sound: false, ..Recording::default() }.make(folder.path(), "silent.mp4");
    let garbage: Vec<u8> = (0..200_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let page = "<!doctype html><html><body><video src=x.mp4></video></body></html>";
    let playlist = "#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n";
    for (name, bytes, codes) in [
        ("garbage.mp4", garbage, &["not_media"][..]),
        ("empty.mp4", Vec::new(), &["empty_file"]),
        ("page.mp4", page.into(), &["not_media"]),
        ("list.m3u8", playlist.into(), &["not_media"]),
        ("cut.mp4", good[..good.len() / 2].to_vec(), &["truncated_media", "not_media", "corrupt_media"]),
        ("silent.mp4", std::fs::read(silent).unwrap(), &["no_audio_stream"]),
    ] {
        let file = platform.upload_bytes(name, bytes).await;
        let job = platform.run("audio.extract", file, json!({"format": "opus"})).await;
        assert_eq!(job.state, State::Failed, "{name}");
        assert!(codes.contains(&error_code(&job)), "{name}: {}", error_code(&job));
        assert_eq!((job.run, job.crashes), (1, 0), "{name}: bad input is not tried again");
        assert!(job.error.unwrap().message.len() > 10);
    }
    // Some damage is survived, or named; never a crash.
    let mut flipped = good;
    for n in (5_000..flipped.len()).step_by(9_973) {
        flipped[n] ^= 0x55;
    }
    let file = platform.upload_bytes("flipped.mp4", flipped).await;
    let job = platform.run("audio.extract", file, json!({"format": "flac"})).await;
    assert!(job.state == State::Succeeded || job.error.is_some_and(|it| !it.retryable));
    assert_eq!(job.crashes, 0);
    platform.nothing_is_left().await;
}

#[tokio::test]
async fn submissions_that_cannot_be_accepted_say_why() {
    let platform = Platform::with(&[], 0).await;
    let file = platform.upload_bytes("x.txt", "x").await;
    let source = json!({"upload": file});
    let submit = async |kind: &str, payload: Value| platform.submit(kind, payload).await;
    assert_eq!(problem(submit("audio.extrakt", json!({})).await, 422).await, "unknown_kind");
    assert_eq!(problem(submit("audio.extract", json!({})).await, 422).await, "invalid_payload");
    let wrong = submit("audio.extract", json!({"source": source, "channels": "two"})).await;
    let body: Value = wrong.json().await.unwrap();
    assert_eq!(
        (body["code"].as_str(), body["errors"][0]["path"].as_str()),
        (Some("invalid_payload"), Some("payload.channels"))
    );
    let unknown = submit("audio.extract", json!({"source": source, "colour": "red"})).await;
    assert_eq!(problem(unknown, 422).await, "invalid_payload");
    let missing = json!({"upload": "file-00000000000000000000000000000000"});
    assert_eq!(problem(submit("media.probe", json!({"source": missing})).await, 422).await, "unknown_file");
    let huge = submit("media.probe", json!({"source": source, "x": "y".repeat(70_000)})).await;
    assert_eq!(problem(huge, 413).await, "payload_too_large");

    let post =
        |body: &'static str| platform.request("POST", "/jobs").header("content-type", "application/json").body(body);
    for (body, status) in [("{", 400), ("", 400), ("[]", 422), (r#"{"kind":"media.probe"}"#, 422), ("\u{0}", 400)] {
        let answer = post(body).send().await.unwrap();
        assert!([status, 400, 422].contains(&answer.status().as_u16()), "{body}: {}", answer.status());
        problem(answer, if body.is_empty() { 400 } else { status }).await;
    }
    let form = platform.request("POST", "/jobs").header("content-type", "text/plain").body("{}");
    assert_eq!(form.send().await.unwrap().status(), 415);
    for path in ["/jobs/media-0198c0de-0000-7000-8000-000000000001", "/jobs/nonsense", "/jobs/%00"] {
        assert_eq!(problem(platform.request("GET", path).send().await.unwrap(), 404).await, "unknown_job");
    }
    assert_eq!(platform.request("PUT", "/jobs").send().await.unwrap().status(), 405);
    assert_eq!(problem(platform.request("GET", "/nowhere").send().await.unwrap(), 404).await, "not_found");
}

#[tokio::test]
async fn uploads_over_the_limit_cut_off_or_wrong_leave_nothing() {
    let platform = Platform::with(&[("FOURMI_MAX_UPLOAD_BYTES", "100000")], 0).await;
    let upload = |body: Vec<u8>| platform.request("POST", "/files?name=a.bin").body(body);
    assert_eq!(problem(upload(vec![0; 100_001]).send().await.unwrap(), 413).await, "file_too_large");
    // Without an announced length the limit holds too.
    let stream = futures_util::stream::iter((0..200).map(|_| Ok::<_, std::io::Error>(vec![0_u8; 1_000])));
    let endless = platform.request("POST", "/files?name=a.bin").body(reqwest::Body::wrap_stream(stream));
    assert_eq!(problem(endless.send().await.unwrap(), 413).await, "file_too_large");
    let wrong = upload(vec![7; 10]).header("content-sha256", "00".repeat(32));
    assert_eq!(problem(wrong.send().await.unwrap(), 422).await, "checksum_mismatch");
    // A connection that breaks in the middle.
    let broken = futures_util::stream::iter([Ok(vec![0_u8; 1_000]), Err(std::io::Error::other("cut"))]);
    let cut = platform.request("POST", "/files?name=a.bin").body(reqwest::Body::wrap_stream(broken));
    assert!(cut.send().await.is_err());
    platform.nothing_is_left().await;
    assert_eq!(upload(vec![0; 100_000]).send().await.unwrap().status(), 201);
}

#[tokio::test]
async fn the_same_key_gives_the_same_job_over_http() {
    let platform = Platform::with(&[], 0).await;
    let file = platform.upload_bytes("x.txt", "x").await;
    let submit = |kind: &'static str, format: &'static str| {
        let mut payload = json!({"source": {"upload": file}});
        if kind == "audio.extract" {
            payload["format"] = format.into();
        }
        let body = json!({"kind": kind, "payload": payload, "tags": ["t"], "priority": "low"});
        platform.request("POST", "/jobs").header("idempotency-key", "once").json(&body).send()
    };
    let first = submit("audio.extract", "mp3").await.unwrap();
    assert_eq!(first.status(), 202);
    let place = first.headers()["location"].to_str().unwrap().to_owned();
    let job: Job = first.json().await.unwrap();
    assert_eq!(place, format!("/api/v1/jobs/{}", job.id));
    assert_eq!((job.state, job.tags.as_slice()), (State::Waiting, &["t".to_owned()][..]));

    let again = submit("audio.extract", "mp3").await.unwrap();
    assert_eq!(again.headers()["idempotency-replayed"], "true");
    assert_eq!(again.json::<Job>().await.unwrap().id, job.id);
    assert_eq!(problem(submit("audio.extract", "wav").await.unwrap(), 409).await, "idempotency_conflict");
    assert_eq!(problem(submit("media.probe", "").await.unwrap(), 409).await, "idempotency_conflict");

    let list = platform.get("/jobs?state=waiting&tag=t").await;
    assert_eq!((list["jobs"].as_array().unwrap().len(), &list["next"]), (1, &Value::Null));
}

#[tokio::test]
async fn cancel_and_retry_over_http() {
    let platform = Platform::start().await;
    let folder = TempDir::new().unwrap();
    let file = platform.upload(&long_recording(folder.path(), 90)).await;
    let payload = json!({"source": {"upload": file}, "format": "mp3", "sample_rate": 44100});
    let handle = platform.client.submit_raw("audio.extract", payload).send().await.unwrap();
    let path = format!("/jobs/{}", handle.id());
    let mut updates = handle.events();
    loop {
        match timeout(PATIENCE, updates.next()).await.unwrap().unwrap().unwrap() {
            Update::Progress { progress, .. } if progress.percent > 0.0 => break,
            _ => {}
        }
    }
    let asked = Instant::now();
    let answer = platform.request("POST", &format!("{path}/cancel")).send().await.unwrap();
    assert!(answer.status().is_success());
    let job = handle.wait().await.unwrap();
    assert_eq!(job.state, State::Cancelled);
    assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
    platform.nothing_is_left().await;
    let again = platform.request("POST", &format!("{path}/cancel")).send().await.unwrap();
    assert_eq!(problem(again, 409).await, "already_over");

    let retried = platform.request("POST", &format!("{path}/retry")).send().await.unwrap();
    assert_eq!(retried.status(), 200);
    let running = eventually_async("it runs again", async || {
        let job = platform.client.job(handle.id()).await.unwrap();
        (job.state == State::Running).then_some(job)
    });
    assert_eq!(running.await.run, 2);
    let refused = platform.request("POST", &format!("{path}/retry")).send().await.unwrap();
    assert_eq!(problem(refused, 409).await, "not_retryable");
    platform.request("POST", &format!("{path}/cancel")).send().await.unwrap();
    assert_eq!(handle.wait().await.unwrap().state, State::Cancelled);
}

#[tokio::test]
async fn a_wait_answers_as_soon_as_the_job_is_over_or_its_time_is() {
    let mut platform = Platform::with(&[], 0).await;
    let file = platform.upload_bytes("x.txt", "x").await;
    let body = json!({"kind": "media.probe", "payload": {"source": {"upload": file}}});
    let submit = |wait: &'static str| platform.request("POST", "/jobs").header("prefer", wait).json(&body).send();
    let waited = submit("wait=1").await.unwrap();
    assert_eq!(waited.status(), 202);
    platform.add_worker();
    let file = platform.upload_bytes("x.txt", "x").await;
    let body = json!({"kind": "media.probe", "payload": {"source": {"upload": file}}});
    let over = platform.request("POST", "/jobs").header("prefer", "wait=60").json(&body).send().await.unwrap();
    assert_eq!(over.status(), 200);
    let tag = over.headers().get("etag").cloned();
    let job: Job = over.json().await.unwrap();
    assert_eq!((job.state, error_code(&job)), (State::Failed, "not_media"));
    let path = format!("/jobs/{}", job.id);
    let tag = tag.unwrap_or_else(|| format!("\"{}\"", job.version).parse().unwrap());
    let unchanged = platform.request("GET", &path).header("if-none-match", tag).send().await.unwrap();
    assert_eq!(unchanged.status(), 304);
    let runs = platform.get(&format!("{path}/runs")).await;
    assert_eq!(runs["runs"][0]["error"]["code"], "not_media");
}

#[tokio::test]
async fn jobs_survive_the_death_of_every_process() {
    let mut platform = Platform::start().await;
    let folder = TempDir::new().unwrap();
    let file = platform.upload(&long_recording(folder.path(), 10)).await;
    let payload = json!({"source": {"upload": file}, "format": "opus"});
    let handle = platform.client.submit_raw("audio.extract", payload).send().await.unwrap();
    let mut updates = handle.events();
    timeout(PATIENCE, async { while !matches!(updates.next().await, Some(Ok(Update::Progress { .. }))) {} })
        .await
        .unwrap();
    // The stream and the job live through all of this.
    platform.api.kill();
    platform.workers[0].kill();
    platform.redis.kill();
    platform.redis.restart();
    platform.restart_api();
    platform.add_worker();
    let end = timeout(PATIENCE, async {
        let mut last = None;
        while let Some(update) = updates.next().await {
            if let Update::State(job) = update.unwrap() {
                last = Some(job);
            }
        }
        last.expect("the end")
    });
    let job = end.await.unwrap();
    assert_eq!((job.state, job.run, job.attempts), (State::Succeeded, 2, 1));
    platform.nothing_is_left().await;
}

#[tokio::test]
async fn with_redis_gone_the_api_says_so_and_comes_back_by_itself() {
    let mut platform = Platform::with(&[], 0).await;
    let file = platform.upload_bytes("x.txt", "x").await;
    let payload = json!({"source": {"upload": file}});
    platform.redis.kill();
    let started = Instant::now();
    let answer = platform.submit("media.probe", payload.clone()).await;
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    assert!(answer.headers().contains_key("retry-after"));
    assert_eq!(problem(answer, 503).await, "redis_unavailable");
    let ping = platform.open_request("GET", "/api/v1/health/ping").send().await.unwrap();
    assert_eq!(ping.status(), 200);
    let health = platform.open_request("GET", "/api/v1/health").send().await.unwrap();
    assert_eq!(
        (health.status().as_u16(), health.json::<Value>().await.unwrap()["status"].as_str()),
        (503, Some("down"))
    );
    platform.redis.restart();
    eventually_async("submissions are accepted again", async || {
        (platform.submit("media.probe", payload.clone()).await.status() == 202).then_some(())
    })
    .await;
}

/// Reads a stream until its end, as `(event, id, data)`.
async fn read_stream(answer: reqwest::Response) -> Vec<(String, u64, Value)> {
    let text = timeout(PATIENCE, answer.text()).await.expect("the stream ends").unwrap();
    let blocks = text.split("\n\n").filter(|block| block.contains("event:"));
    let field = |block: &str, name: &str| {
        let line = block.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.trim_start_matches(':').trim().to_owned()
    };
    blocks
        .map(|block| {
            let data = serde_json::from_str(&field(block, "data")).unwrap();
            let id = field(block, "id");
            let (version, _line) = id.split_once('.').unwrap();
            (field(block, "event"), version.parse().unwrap(), data)
        })
        .collect()
}

#[tokio::test]
async fn streams_start_with_a_snapshot_and_end_with_the_job() {
    let platform = Platform::start().await;
    let folder = TempDir::new().unwrap();
    let file = platform.upload(&long_recording(folder.path(), 10)).await;
    let payload = json!({"source": {"upload": file}, "format": "opus"});
    let handle = platform.client.submit_raw("audio.extract", payload).send().await.unwrap();
    let path = format!("/jobs/{}/events", handle.id());
    let stream = |last: Option<u64>| {
        let request = platform.request("GET", &path);
        let request = last.iter().fold(request, |it, last| it.header("last-event-id", last.to_string()));
        async move { request.send().await.unwrap() }
    };
    let first = stream(None).await;
    assert_eq!(first.headers()["content-type"], "text/event-stream");
    // A reader that does not read holds nobody up.
    let _slow = stream(None).await;
    // A subscriber that comes late gets the newest progress at once.
    let mut updates = handle.events();
    timeout(PATIENCE, async { while !matches!(updates.next().await, Some(Ok(Update::Progress { .. }))) {} })
        .await
        .unwrap();
    let late = stream(None).await;
    let (first, late) = tokio::join!(read_stream(first), read_stream(late));
    for events in [&first, &late] {
        assert_eq!(events[0].0, "snapshot");
        assert!(events.iter().map(|(_, id, _)| id).is_sorted());
        let (name, _, job) = events.last().unwrap();
        assert_eq!((name.as_str(), job["state"].as_str()), ("state", Some("succeeded")));
        let percents = events.iter().filter_map(|(_, _, data)| data["progress"]["percent"].as_f64());
        assert!(percents.is_sorted());
    }
    assert!(late[0].2["progress"]["percent"].as_f64().is_some(), "{}", late[0].2);
    assert!(first.iter().any(|(name, ..)| name == "progress"));

    // Who has seen the end is told not to come again; who missed it gets it.
    let end = first.last().unwrap().1;
    assert_eq!(stream(Some(end)).await.status(), 204);
    let missed = read_stream(stream(Some(end - 1)).await).await;
    assert_eq!(missed.len(), 1);
    assert_eq!(missed[0].2["state"], "succeeded");
    let nonsense = platform.request("GET", &path).header("last-event-id", "x\u{e9}").send().await.unwrap();
    assert_eq!(read_stream(nonsense).await.len(), 1);
}

/// A platform whose jobs of the queue `media` are run by the test itself.
struct ByHand {
    platform: Platform,
    transitions: Transitions,
}

impl ByHand {
    async fn start() -> Self {
        let platform = Platform::with(&[], 0).await;
        let queues = Queues::connect(&platform.redis.url()).await.unwrap();
        let transitions = Transitions::of(&queues, "media".parse().unwrap()).await.unwrap();
        Self { platform, transitions }
    }

    /// Submits a job and starts its run.
    async fn run(&self, tag: &str) -> (JobId, Run) {
        let file = self.platform.upload_bytes("x.txt", "x").await;
        let body = json!({"kind": "media.probe", "payload": {"source": {"upload": file}}, "tags": [tag]});
        let answer = self.platform.request("POST", "/jobs").json(&body).send().await.unwrap();
        assert_eq!(answer.status(), 202);
        let claims = self.transitions.fetch("by-hand", 1, Duration::from_secs(60), false).await.unwrap().claims;
        (claims[0].id.clone(), claims[0].key())
    }

    async fn settle(&self, run: Run, outcome: Outcome) {
        assert_eq!(self.transitions.settle(&[Settlement { run, outcome }]).await.unwrap(), [true]);
    }

    async fn fail(&self, tag: &str, code: &str) -> JobId {
        let (id, run) = self.run(tag).await;
        let error = Failure::permanent(code, "it did not work").report();
        self.settle(run, Outcome::Failed { error, keep: PATIENCE }).await;
        id
    }

    async fn park(&self, reason: ParkReason) -> JobId {
        let (id, run) = self.run("t").await;
        let error = Failure::park(reason, "not now").report();
        self.settle(run, Outcome::Parked { error, reason, keep: PATIENCE }).await;
        id
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let answer = self.platform.request("POST", path).json(&body).send().await.unwrap();
        assert!(answer.status().is_success(), "{}: {}", answer.status(), answer.text().await.unwrap());
        answer.json().await.unwrap()
    }

    async fn refused(&self, path: &str, body: Value, status: u16) -> String {
        problem(self.platform.request("POST", path).json(&body).send().await.unwrap(), status).await
    }

    async fn state(&self, id: &JobId) -> State {
        self.platform.client.job(id).await.unwrap().state
    }
}

#[tokio::test]
async fn the_dead_letter_is_listed_replayed_and_purged_over_http() {
    let hand = ByHand::start().await;
    let [busy, night, broken] =
        [hand.fail("day", "busy").await, hand.fail("night", "busy").await, hand.fail("day", "broken").await];
    let list = hand.platform.get("/jobs?state=failed&error=busy&tag=night").await;
    assert_eq!((list["jobs"].as_array().unwrap().len(), &list["jobs"][0]["id"]), (1, &json!(night)));
    let end = hand.platform.client.job(&broken).await.unwrap().finished_at.unwrap();
    let none = hand.platform.get(&format!("/jobs?state=failed&finished_after={}", end + PATIENCE)).await;
    assert_eq!(none["jobs"], json!([]));
    let runs = hand.platform.get(&format!("/jobs/{busy}/runs")).await;
    assert_eq!((&runs["runs"][0]["worker"], &runs["runs"][0]["run"]), (&json!("by-hand"), &json!(1)));
    assert!(runs["runs"][0]["duration_ms"].is_u64(), "{runs}");

    let (replay, purge) = ("/queues/media/dead/replay", "/queues/media/dead/purge");
    let counted = hand.post(purge, json!({"error": "busy", "dry_run": true})).await;
    assert_eq!(counted, json!({"matched": 2, "done": 0, "next": null}));
    assert_eq!(hand.state(&busy).await, State::Failed);
    assert_eq!(hand.post(replay, json!({"error": "busy", "tag": "night"})).await["done"], 1);
    assert_eq!(hand.post(replay, json!({"ids": [busy, night]})).await["done"], 1, "only what has failed");
    assert_eq!((hand.state(&busy).await, hand.state(&night).await), (State::Waiting, State::Waiting));
    assert_eq!(hand.post(purge, json!({})).await, json!({"matched": 1, "done": 1, "next": null}));
    let gone = hand.platform.request("GET", &format!("/jobs/{broken}")).send().await.unwrap();
    assert_eq!(problem(gone, 404).await, "unknown_job");
    let counts = hand.platform.get("/queues/media").await["counts"].clone();
    assert_eq!((&counts["failed"], &counts["waiting"]), (&json!(0), &json!(2)));

    assert_eq!(hand.refused("/queues/nothing/dead/purge", json!({}), 404).await, "unknown_queue");
    assert_eq!(hand.refused(purge, json!({"cursor": "x"}), 400).await, "invalid_cursor");
    assert_eq!(hand.refused(purge, json!({"colour": "red"}), 422).await, "invalid_request");
    let other = "vision-0198c0de-0000-7000-8000-000000000001";
    assert_eq!(hand.refused(purge, json!({"ids": [other]}), 422).await, "invalid_request");
    assert_eq!(hand.refused(purge, json!({"ids": [busy], "error": "busy"}), 422).await, "invalid_request");
    assert_eq!(hand.refused(purge, json!({"finished_after": "soon"}), 422).await, "invalid_request");
}

#[tokio::test]
async fn parked_jobs_are_counted_listed_and_released_over_http() {
    let hand = ByHand::start().await;
    let [offline, missing] = [hand.park(ParkReason::Offline).await, hand.park(ParkReason::NotConfigured).await];
    let queue = hand.platform.get("/queues/media").await;
    assert_eq!(queue["parked"], json!({"not_configured": 1, "offline": 1}));
    let list = hand.platform.get("/jobs?parked_reason=offline").await;
    assert_eq!((list["jobs"].as_array().unwrap().len(), &list["jobs"][0]["id"]), (1, &json!(offline)));
    assert_eq!(list["jobs"][0]["parked_reason"], "offline");

    let released = hand.post("/queues/media/unpark", json!({"reason": "offline"})).await;
    assert_eq!(released, json!({"released": 1, "next": null}));
    assert_eq!((hand.state(&offline).await, hand.state(&missing).await), (State::Waiting, State::Parked));
    let one = hand.platform.request("POST", &format!("/jobs/{missing}/retry")).send().await.unwrap();
    assert_eq!(one.json::<Job>().await.unwrap().state, State::Waiting);
    assert_eq!(hand.refused("/queues/media/unpark", json!({"reason": "tired"}), 422).await, "invalid_request");
    let wrong = hand.platform.request("GET", "/jobs?parked_reason=tired").send().await.unwrap();
    let body: Value = wrong.json().await.unwrap();
    assert!(body["detail"].as_str().unwrap().contains("not_configured, offline, provider_down, uncertain"), "{body}");
}

#[tokio::test]
async fn the_log_of_a_job_is_read_and_streamed_over_http() {
    let hand = ByHand::start().await;
    let (id, run) = hand.run("t").await;
    let say = async |text: &str| {
        let news = [(run, vec![LogEntry::new(LogLevel::Warn, text)])];
        assert_eq!(hand.transitions.log(&news).await.unwrap(), [true]);
    };
    say("one").await;
    say("two").await;
    let page = hand.platform.get(&format!("/jobs/{id}/log?after=1&limit=5")).await;
    assert_eq!((page["lines"].as_array().unwrap().len(), &page["next"]), (1, &json!(2)));
    let line = &page["lines"][0];
    assert_eq!(
        (&line["n"], &line["run"], &line["level"], &line["text"]),
        (&json!(2), &json!(1), &json!("warn"), &json!("two"))
    );
    for query in ["after=x", "limit=0", "limit=1001", "colour=red"] {
        let wrong = hand.platform.request("GET", &format!("/jobs/{id}/log?{query}")).send().await.unwrap();
        assert_eq!(problem(wrong, 400).await, "invalid_query");
    }
    let unknown = hand.platform.request("GET", "/jobs/media-0198c0de-0000-7000-8000-000000000001/log");
    assert_eq!(problem(unknown.send().await.unwrap(), 404).await, "unknown_job");

    let path = format!("/jobs/{id}/events");
    let from_now = hand.platform.request("GET", &path).send().await.unwrap();
    let whole = hand.platform.request("GET", &format!("{path}?log_after=0")).send().await.unwrap();
    let mut updates = hand.platform.client.events_with_log(&id, 1);
    assert!(matches!(updates.next().await, Some(Ok(Update::Snapshot(_)))));
    say("three").await;
    hand.settle(run, Outcome::Succeeded { result: "1".into(), keep: PATIENCE }).await;

    let version = hand.platform.client.job(&id).await.unwrap().version;
    let events = |text: String| {
        let field = |block: &str, name: &str| {
            block.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned()
        };
        let blocks = text.split("\n\n").filter(|block| block.contains("event:"));
        blocks.map(|block| format!("{} {}", field(block, "event:"), field(block, "id:"))).collect::<Vec<_>>()
    };
    let read = async |answer: reqwest::Response| events(timeout(PATIENCE, answer.text()).await.unwrap().unwrap());
    let before = version - 1;
    let expected = [format!("snapshot {before}.2"), format!("log {before}.3"), format!("state {version}.3")];
    assert_eq!(read(from_now).await, expected);
    let expected = [
        format!("snapshot {before}.0"),
        format!("log {before}.1"),
        format!("log {before}.2"),
        format!("log {before}.3"),
        format!("state {version}.3"),
    ];
    assert_eq!(read(whole).await, expected);
    // Who was cut off goes on where that was.
    let again =
        hand.platform.request("GET", &path).header("last-event-id", format!("{before}.2")).send().await.unwrap();
    assert_eq!(read(again).await, [format!("snapshot {version}.2"), format!("log {version}.3")]);
    let over =
        hand.platform.request("GET", &path).header("last-event-id", format!("{version}.3")).send().await.unwrap();
    assert_eq!(over.status(), 204);

    let mut followed = Vec::new();
    while let Some(update) = timeout(PATIENCE, updates.next()).await.unwrap() {
        match update.unwrap() {
            Update::Log { line, missed: 0 } => followed.push(line.text),
            Update::State(job) => followed.push(job.state.to_string()),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(followed, ["two", "three", "succeeded"]);
}

#[tokio::test]
async fn a_caller_says_how_long_an_idempotency_key_lives() {
    let platform = Platform::with(&[], 0).await;
    let file = platform.upload_bytes("x.txt", "x").await;
    let submit = |key: Option<&'static str>, ttl: Value| {
        let payload = json!({"source": {"upload": file}});
        let request = platform.request("POST", "/jobs");
        let request = key.iter().fold(request, |it, key| it.header("idempotency-key", *key));
        request.json(&json!({"kind": "media.probe", "payload": payload, "idempotency_ttl_s": ttl})).send()
    };
    for ttl in [json!(0), json!(2_592_001)] {
        assert_eq!(problem(submit(Some("k"), ttl).await.unwrap(), 422).await, "invalid_request");
    }
    assert_eq!(problem(submit(None, json!(60)).await.unwrap(), 422).await, "invalid_request");
    let first: Job = submit(Some("k"), json!(60)).await.unwrap().json().await.unwrap();
    let again: Job = submit(Some("k"), json!(60)).await.unwrap().json().await.unwrap();
    assert_eq!(first.id, again.id);
    let mut redis = platform.redis.connection();
    let keys: Vec<String> = redis::cmd("KEYS").arg("{media}:i:*").query(&mut redis).unwrap();
    let left: i64 = redis::cmd("PTTL").arg(&keys[0]).query(&mut redis).unwrap();
    assert!(keys.len() == 1 && (30_000..=60_000).contains(&left), "{keys:?} {left}");
    let () = redis::cmd("PEXPIRE").arg(&keys[0]).arg(0).query(&mut redis).unwrap();
    let later: Job = submit(Some("k"), json!(60)).await.unwrap().json().await.unwrap();
    assert_ne!(first.id, later.id);
}

#[tokio::test]
async fn streams_end_when_the_api_is_told_to_stop() {
    let mut platform = Platform::with(&[], 0).await;
    let file = platform.upload_bytes("x.txt", "x").await;
    let answer = platform.submit("media.probe", json!({"source": {"upload": file}})).await;
    let id = answer.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned();
    let stream = platform.request("GET", &format!("/jobs/{id}/events")).send().await.unwrap();
    platform.api.signal(nix::sys::signal::Signal::SIGTERM);
    let events = read_stream(stream).await;
    assert_eq!(events[0].0, "snapshot");
    assert!(platform.api.wait().success());
}

#[tokio::test]
async fn a_full_disk_is_said_and_leaves_nothing() {
    let mut platform = Platform::with(&[], 0).await;
    platform.add_worker_with_room(400);
    let folder = TempDir::new().unwrap();
    let recording = Recording { seconds: 60, ..Recording::default() }.make(folder.path(), "a.mp4");
    let file = platform.upload(&recording).await;
    let payload = json!({"source": {"upload": file}, "format": "wav"});
    let submission = json!({"kind": "audio.extract", "payload": payload, "policy": {"attempts": 2, "backoff_ms": 1}});
    let answer = platform.request("POST", "/jobs").json(&submission).send().await.unwrap();
    let job: Job = answer.json().await.unwrap();
    let job = platform.client.wait(&job.id).await.unwrap();
    // It was worth another try, because disks are emptied.
    assert_eq!((job.state, error_code(&job), job.run), (State::Failed, "disk_full", 2));

    platform.api.kill();
    platform.restart_api_with_files(400);
    let upload = platform.request("POST", "/files?name=a.bin").body(vec![0_u8; 1_000_000]);
    assert_eq!(problem(upload.send().await.unwrap(), 507).await, "disk_full");
    // What was half written makes room again.
    let upload = platform.request("POST", "/files?name=a.bin").body(vec![0_u8; 200_000]);
    assert_eq!(upload.send().await.unwrap().status(), 201);
}
