//! Workers killed and jobs cancelled in every stage.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use fourmi_client::{JobHandle, Raw};
use fourmi_model::State;
use fourmi_tests::{
    eventually, eventually_async, long_recording,
    media_server::{Answer, Route, Segments, hls, page_with_video},
};
use serde_json::{Value, json};

use crate::stage::{Stage, end, plain, plain_and_new, result, until_stage};

/// The size of the largest file of a cache or a kept room.
fn largest_below(folder: &Path) -> u64 {
    let items = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = items.map(|item| match item.metadata() {
        Ok(metadata) if metadata.is_dir() => largest_below(&item.path()),
        Ok(metadata) => metadata.len(),
        // It went away meanwhile.
        Err(_) => 0,
    });
    sizes.max().unwrap_or(0)
}

/// Work that takes some seconds in every stage.
fn thorough() -> Value {
    json!({"format": "opus", "sample_rate": 48_000})
}

#[tokio::test]
async fn a_worker_killed_while_it_downloads_leaves_what_it_has_to_the_next() {
    let mut stage = Stage::with(&[("FOURMI_LEASE_MS", "1000")]).await;
    let recording = long_recording(stage.folder.path(), 2);
    let bytes = std::fs::metadata(&recording).unwrap().len();
    let url = stage.server.route("/long.wav", Route::file(&recording).etag("v1"));
    stage.server.hold("/long.wav", bytes / 2);
    let handle = stage.submit(&url, plain()).await;
    stage.server.wait_until_held("/long.wav").await;
    // What has left the server has to arrive on the worker's disk.
    let there = bytes / 2 - 1_000;
    eventually("half of the recording is on disk", || largest_below(stage.platform.data()) >= there);
    let before = stage.server.requests("/long.wav").len();
    stage.kill_worker();
    stage.platform.add_worker();
    let next = stage.server.wait_for_request("/long.wav", before + 1).await;
    stage.server.release("/long.wav");
    let job = end(&handle).await;
    assert_eq!((job.run, job.crashes), (2, 0));
    let found = result(job);
    assert_eq!(found.source.unwrap().bytes, bytes);
    assert!(next.offset().is_some_and(|from| from >= there), "{next:?}");
    assert_eq!(next.header("if-range"), Some("\"v1\""));
    let sent = stage.server.bytes_sent("/long.wav");
    assert!(sent <= bytes + bytes / 10, "{sent} of {bytes} bytes were sent");
    stage.platform.nothing_is_left().await;
}

#[tokio::test]
async fn a_worker_killed_before_it_has_anything_leaves_the_job_to_the_next() {
    let mut stage = Stage::with(&[("FOURMI_LEASE_MS", "1000")]).await;
    let recording = stage.recording("a.mp4");
    for (path, route) in [
        ("/a.mp4", Route::file(&recording).first(1, Answer::Silence)),
        ("/page", Route::html(page_with_video("Séance", "/b.mp4")).nth(2, Answer::Silence)),
    ] {
        stage.server.route("/b.mp4", Route::file(&recording));
        let handle = stage.submit(&stage.server.route(path, route), plain_and_new()).await;
        // A page is asked for by our own client, and then by yt-dlp.
        stage.server.wait_for_request(path, if path == "/page" { 2 } else { 1 }).await;
        stage.kill_worker();
        stage.platform.add_worker();
        let job = end(&handle).await;
        assert_eq!((job.run, job.crashes), (2, 0), "{path}");
        result(job);
    }
    stage.platform.nothing_is_left().await;
}

#[tokio::test]
async fn a_worker_killed_while_yt_dlp_downloads_leaves_its_fragments_to_the_next() {
    let mut stage = Stage::with(&[("FOURMI_LEASE_MS", "1000")]).await;
    let recording = stage.recording("a.mp4");
    hls(&stage.folder.path().join("hls"), &recording, Segments::Ts, false, 1);
    stage.server.folder("/hls", &stage.folder.path().join("hls"));
    stage.server.hold("/hls/segment-003.ts", 0);
    let handle = stage.submit(&stage.server.url("/hls/index.m3u8"), plain()).await;
    stage.server.wait_until_held("/hls/segment-003.ts").await;
    let running = stage.foreign_processes();
    assert_eq!(running.len(), 1, "{running:?}");
    // Everybody on the machine can read command lines.
    assert!(!running[0].contains("fourmi:"), "the proxy's password is in the open: {running:?}");
    stage.kill_worker();
    stage.platform.add_worker();
    stage.server.release("/hls/segment-003.ts");
    let job = end(&handle).await;
    assert_eq!((job.run, job.crashes), (2, 0));
    assert!(result(job).duration_ms.abs_diff(6_000) < 150);
    let first = stage.server.requests("/hls/segment-001.ts").len();
    assert_eq!(first, 1, "the second run fetched again what was there");
    stage.platform.nothing_is_left().await;
    stage.no_process_is_left();
}

#[tokio::test]
async fn a_worker_killed_after_the_download_fetches_nothing_again() {
    for stop in ["analyse", "transcode"] {
        let mut stage = Stage::with(&[("FOURMI_LEASE_MS", "1000")]).await;
        let url = stage.server.route("/long.wav", Route::file(&long_recording(stage.folder.path(), 10)));
        let handle = stage.submit(&url, thorough()).await;
        until_stage(&handle, stop).await;
        let before = stage.server.all_requests().len();
        stage.kill_worker();
        stage.platform.add_worker();
        let job = end(&handle).await;
        assert_eq!((job.run, job.crashes), (2, 0), "{stop}");
        assert!(result(job).duration_ms.abs_diff(600_000) < 1_000);
        assert_eq!(stage.server.all_requests().len(), before, "{stop}");
        stage.platform.nothing_is_left().await;
    }
}

/// Cancels a job that is where it should be; gives how long the stop took.
async fn cancel(stage: &Stage, handle: &JobHandle<Raw>, at: &str) {
    let asked = Instant::now();
    stage.platform.client.cancel(handle.id()).await.unwrap();
    let job = end(handle).await;
    let took = asked.elapsed();
    eprintln!("cancelled in {at} after {took:?}");
    assert_eq!(job.state, State::Cancelled, "{at}");
    assert!(took < Duration::from_secs(5), "{at}: {took:?}");
    stage.no_process_is_left();
    stage.platform.nothing_is_left().await;
}

#[tokio::test]
async fn a_cancelled_job_stops_at_once_wherever_it_is() {
    let stage = Stage::start().await;
    let server = &stage.server;
    let recording = long_recording(stage.folder.path(), 20);

    let silent = server.route("/silent.wav", Answer::Silence);
    let handle = stage.submit(&silent, plain()).await;
    server.wait_for_request("/silent.wav", 1).await;
    cancel(&stage, &handle, "resolve").await;

    let page = server.route("/silent-page", Answer::Silence);
    let handle = stage.submit(&page, plain()).await;
    server.wait_for_request("/silent-page", 1).await;
    cancel(&stage, &handle, "resolve of a page").await;

    server.hold("/held.wav", 100_000);
    let held = server.route("/held.wav", Route::file(&recording));
    let handle = stage.submit(&held, plain()).await;
    server.wait_until_held("/held.wav").await;
    cancel(&stage, &handle, "download").await;

    hls(&stage.folder.path().join("hls"), &stage.recording("a.mp4"), Segments::Ts, false, 1);
    server.folder("/hls", &stage.folder.path().join("hls"));
    server.hold("/hls/segment-002.ts", 0);
    let page = server.route("/page", Route::html(page_with_video("Séance", "/hls/index.m3u8")));
    let handle = stage.submit(&page, plain()).await;
    server.wait_until_held("/hls/segment-002.ts").await;
    cancel(&stage, &handle, "download by yt-dlp").await;

    let url = server.route("/long.wav", Route::file(&recording));
    for at in ["analyse", "transcode"] {
        let handle = stage.submit(&url, thorough()).await;
        until_stage(&handle, at).await;
        cancel(&stage, &handle, at).await;
    }
    // What waits for its next try is cancelled as well.
    let busy = server.route("/busy.wav", Answer::Status(429, Some(600)));
    let handle = stage.submit(&busy, plain()).await;
    eventually_async("it waits", async || {
        let job = stage.platform.client.job(handle.id()).await.unwrap();
        (job.state == State::Retrying).then_some(())
    })
    .await;
    cancel(&stage, &handle, "the wait for another try").await;
}
