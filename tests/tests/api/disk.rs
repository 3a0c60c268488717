//! A full disk: what is refused, what goes on, and that all comes back by itself.

use std::path::PathBuf;

use fourmi_tests::{Platform, Program, eventually_async};
use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};

use crate::problem;

/// The disk that a program has for files, in KiB.
const DISK: u32 = 8_192;

/// What is left free of it: less than its twentieth.
const RESERVE: &str = "256KiB";

/// What fills all of it but half of the reserve, in bytes.
const BALLAST: usize = (8_192 - 128) * 1_024;

/// Fills the disk of a program; gives the file that has to go to make room.
fn fill(platform: &Platform, program: &Program) -> PathBuf {
    let ballast = program.inside(&platform.data().join("files/ballast"));
    std::fs::write(&ballast, vec![1; BALLAST]).unwrap();
    ballast
}

async fn document(request: RequestBuilder, status: u16) -> Value {
    let answer = request.send().await.unwrap();
    let (found, text) = (answer.status().as_u16(), answer.text().await.unwrap());
    assert_eq!(found, status, "{text}");
    serde_json::from_str(&text).unwrap()
}

fn id(document: &Value) -> String {
    document["id"].as_str().unwrap_or_else(|| panic!("{document}")).to_owned()
}

/// Announces a file of four bytes.
async fn announce(platform: &Platform) -> Response {
    let announced = platform.request("POST", "/uploads").header("tus-resumable", "1.0.0").header("upload-length", "4");
    announced.send().await.unwrap()
}

/// Sends all of it.
async fn send_piece(platform: &Platform, path: &str) -> Response {
    let piece = platform.request("PATCH", path).header("tus-resumable", "1.0.0").header("upload-offset", "0");
    piece.header("content-type", "application/offset+octet-stream").body("1234").send().await.unwrap()
}

/// Waits until the platform knows whether a disk is full.
async fn until(platform: &Platform, is_full: bool) {
    eventually_async("it is seen how the disk is", async || {
        let files = platform.get("/health/detailed").await["files"].clone();
        let says_so = files["detail"].as_str()?.contains("new jobs and files are refused");
        (says_so == is_full).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_jobs_and_files_are_refused_until_there_is_room() {
    let mut platform = Platform::with(&[], 0).await;
    platform.api.kill();
    platform.restart_api_with_reserve(DISK, RESERVE);
    let post = |path: &str, body: &Value| platform.request("POST", path).json(body);
    let file = platform.upload_bytes("a.txt", "content").await;
    let probe = json!({"kind": "media.probe", "payload": {"source": {"upload": file}}});
    let job = id(&document(post("/jobs", &probe), 202).await);
    let schedule = |name: &str| json!({"name": name, "cron": "@yearly", "job": probe});
    let run = format!("/schedules/{}/run", id(&document(post("/schedules", &schedule("before")), 201).await));
    let upload =
        announce(&platform).await.headers()["location"].to_str().unwrap().rsplit('/').next().unwrap().to_owned();
    let upload = format!("/uploads/{upload}");

    let ballast = fill(&platform, &platform.api);
    until(&platform, true).await;
    let refused = post("/jobs", &probe).send().await.unwrap();
    assert_eq!(refused.headers()["retry-after"], "10");
    assert_eq!(problem(refused, 507).await, "disk_full");
    let flow = json!({"jobs": [{"name": "a", "kind": "media.probe", "payload": probe["payload"]}]});
    for request in [post("/flows", &flow), platform.request("POST", &run), platform.request("POST", "/files").body("b")]
    {
        assert_eq!(problem(request.send().await.unwrap(), 507).await, "disk_full");
    }
    assert_eq!(problem(announce(&platform).await, 507).await, "disk_full");
    assert_eq!(problem(send_piece(&platform, &upload).await, 507).await, "disk_full");
    let many = document(post("/jobs/bulk", &json!([probe])), 200).await;
    let result = &many["results"][0];
    assert_eq!((&result["status"], &result["retry_after_s"]), (&json!(507), &json!(10)), "{many}");

    // What is there goes on, operators clean up, and what comes later may be planned.
    assert_eq!(platform.get(&format!("/jobs/{job}")).await["state"], "waiting");
    let content = platform.request("GET", &format!("/files/{file}")).send().await.unwrap();
    assert_eq!(content.text().await.unwrap(), "content");
    document(post(&format!("/jobs/{job}/cancel"), &json!({})), 200).await;
    let retention = json!({"kind": "maintenance.retention", "payload": {"dry_run": true}});
    document(post("/jobs", &retention), 202).await;
    document(post("/schedules", &schedule("meanwhile")), 201).await;
    let health = document(platform.open_request("GET", "/api/v1/health"), 200).await;
    assert_eq!((&health["status"], &health["files"]), (&json!("degraded"), &json!({"status": "degraded"})));

    std::fs::remove_file(ballast).unwrap();
    until(&platform, false).await;
    document(post("/jobs", &probe), 202).await;
    platform.upload_bytes("b.txt", "b").await;
    assert_eq!(send_piece(&platform, &upload).await.status(), 204);
    let said = platform.api.lines().join("\n");
    let times = ["a disk is full: new jobs", "there is room on the disks again"].map(|line| said.matches(line).count());
    assert_eq!(times, [1, 1], "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ticks_wait_until_there_is_room_but_for_chores() {
    let platform = Platform::with(&[], 0).await;
    let kind = json!({"summary": "Hears of a tick.", "payload_schema": {"type": "object"}});
    document(platform.request("PUT", "/kinds/x.tick").json(&kind), 201).await;
    let every_second = async |kind: &str| {
        let schedule = json!({"name": kind, "cron": "* * * * * *", "job": {"kind": kind, "payload": {}}});
        id(&document(platform.request("POST", "/schedules").json(&schedule), 201).await)
    };
    let (ticks, chores) = (every_second("x.tick").await, every_second("host.metrics").await);
    let fires = async |schedule: &str| {
        let page = platform.get(&format!("/schedules/{schedule}/fires?limit=200")).await;
        page["fires"].as_array().unwrap().clone()
    };
    let until = async |schedule: &str, count: usize| {
        eventually_async("ticks come", async || (fires(schedule).await.len() >= count).then_some(())).await;
    };

    let mut settings = platform.settings().to_vec();
    settings.push(("FOURMI_KEEP_FREE_BYTES", RESERVE.to_owned()));
    let files = platform.data().join("files");
    let scheduler = Program::start_on_small_disk("fourmi-schedules", &files, DISK, settings);
    until(&ticks, 2).await;
    let ballast = fill(&platform, &scheduler);
    scheduler.wait_for_line("ticks wait");
    let (held, chores_before) = (fires(&ticks).await.len(), fires(&chores).await.len());
    until(&chores, chores_before + 3).await;
    assert_eq!(fires(&ticks).await.len(), held);

    std::fs::remove_file(ballast).unwrap();
    until(&ticks, held + 4).await;
    let fires = fires(&ticks).await;
    assert!(fires.iter().all(|fire| fire["outcome"] == "fired"), "{fires:?}");
    let second = |fire: &Value| fire["tick"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_second();
    assert!(fires.windows(2).all(|pair| second(&pair[0]) == second(&pair[1]) + 1), "{fires:?}");
}
