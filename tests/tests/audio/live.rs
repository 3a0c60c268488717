//! Streams on the air, recorded while a test publishes their segments.

use std::path::PathBuf;

use fourmi_client::{JobHandle, Raw};
use fourmi_kinds::{AudioRecorded, LiveEnd};
use fourmi_model::State;
use fourmi_tests::{
    Recording, eventually_async,
    media_server::{LiveSource, LiveStream, Segments},
};
use serde_json::{Value, json};

use crate::stage::{Stage, code, end, recorded, until_progress};

/// Twelve seconds with picture and sound.
fn recording(stage: &Stage) -> PathBuf {
    Recording { seconds: 12, chapters: false, ..Recording::default() }.make(stage.folder.path(), "live.mp4")
}

fn source(stage: &Stage, kind: Segments, picture: bool) -> LiveSource {
    LiveSource::cut(&stage.folder.path().join("cut"), &recording(stage), kind, picture)
}

async fn record(stage: &Stage, live: &LiveStream<'_>, options: Value) -> JobHandle<Raw> {
    let mut payload = json!({"url": live.url()});
    payload.as_object_mut().unwrap().extend(options.as_object().cloned().unwrap_or_default());
    stage.submit_kind("audio.live", payload).await
}

async fn publish(live: &mut LiveStream<'_>, segments: usize) {
    for _ in 0..segments {
        live.publish_and_wait().await;
    }
}

/// Checks that the sound is as long as it should be, and that it can be played.
async fn check_length(stage: &Stage, found: &AudioRecorded, expected_ms: u64) {
    let audio = &found.files[0];
    assert_eq!(audio.role, "audio");
    assert!(found.duration_ms.abs_diff(expected_ms) < 250, "{} ms, not {expected_ms}", found.duration_ms);
    let probed = stage.platform.run("media.probe", audio.file, json!({})).await;
    assert_eq!(probed.state, State::Succeeded, "{:?}", probed.error);
    let info = probed.result.unwrap();
    let duration = info["duration_ms"].as_u64().unwrap();
    assert!(duration.abs_diff(found.duration_ms) < 100, "{duration} ms inside, {} said", found.duration_ms);
}

#[tokio::test]
async fn a_stream_is_recorded_to_its_end() {
    for (kind, picture) in [(Segments::Ts, false), (Segments::Fmp4, false), (Segments::Ts, true)] {
        let stage = Stage::start().await;
        let source = source(&stage, kind, picture);
        let mut live = LiveStream::start(&stage.server, &source, "/live");
        live.publish_segment();
        let handle = record(&stage, &live, json!({})).await;
        stage.server.wait_for_request(&live.segment(0), 1).await;
        publish(&mut live, 6).await;
        live.end();
        let found = recorded(end(&handle).await);
        assert_eq!((found.ended, found.segments, found.gaps.len(), found.reconnects), (LiveEnd::Finished, 7, 0, 0));
        assert_eq!((found.codec.name.as_str(), found.codec.copied), ("aac", true));
        check_length(&stage, &found, source.duration_ms(0..7)).await;
        for number in 0..7 {
            assert_eq!(stage.server.requests(&live.segment(number)).len(), 1, "segment {number}");
        }
        stage.platform.nothing_is_left().await;
    }
}

#[tokio::test]
async fn a_recording_outlives_an_absence_of_the_stream() {
    let stage = Stage::start().await;
    let source = source(&stage, Segments::Ts, false);
    let mut live = LiveStream::start(&stage.server, &source, "/live");
    live.publish_segment();
    let handle = record(&stage, &live, json!({"format": "mp3"})).await;
    publish(&mut live, 2).await;
    // First errors, then nobody there at all.
    let asked = stage.server.requests(&live.playlist()).len();
    live.fail_playlist(2, 503);
    stage.server.wait_for_request(&live.playlist(), asked + 3).await;
    publish(&mut live, 2).await;
    stage.server.stop_listening().await;
    stage.server.wait_for_attempt().await;
    live.publish_segment();
    stage.server.listen_again();
    publish(&mut live, 2).await;
    live.end();
    let found = recorded(end(&handle).await);
    assert_eq!((found.ended, found.segments, found.gaps.len()), (LiveEnd::Finished, 8, 0), "{found:?}");
    assert!(found.reconnects >= 1, "{found:?}");
    assert_eq!((found.codec.name.as_str(), found.codec.copied), ("mp3", false));
    check_length(&stage, &found, source.duration_ms(0..8)).await;
}

#[tokio::test]
async fn what_is_missing_is_marked() {
    let stage = Stage::start().await;
    let source = source(&stage, Segments::Ts, false);
    let mut live = LiveStream::start(&stage.server, &source, "/live");
    live.publish_segment();
    let handle = record(&stage, &live, json!({})).await;
    publish(&mut live, 2).await;
    // An empty window is looked at more than once, which makes the gap no wider.
    let asked = stage.server.requests(&live.playlist()).len();
    live.skip_segments(2);
    stage.server.wait_for_request(&live.playlist(), asked + 4).await;
    publish(&mut live, 2).await;
    live.end();
    let found = recorded(end(&handle).await);
    assert_eq!((found.segments, found.gaps.len()), (5, 1), "{found:?}");
    let gap = &found.gaps[0];
    assert!(gap.at_ms.abs_diff(source.duration_ms(0..3)) < 250, "{gap:?}");
    assert_eq!(gap.segments, Some(2));
    assert!(gap.missing_ms.unwrap().abs_diff(source.duration_ms(3..5)) < 500, "{gap:?}");
    // The gap is marked, not filled: the sound before and after it is there once.
    check_length(&stage, &found, source.duration_ms(0..3) + source.duration_ms(5..7)).await;
}

#[tokio::test]
async fn an_encoder_that_starts_again_is_followed() {
    let stage = Stage::start().await;
    let source = source(&stage, Segments::Ts, false);
    let mut live = LiveStream::start(&stage.server, &source, "/live");
    live.publish_segment();
    let handle = record(&stage, &live, json!({})).await;
    publish(&mut live, 4).await;
    live.discontinuity();
    publish(&mut live, 1).await;
    // Numbers start again, and old names stand for new sound.
    live.restart();
    live.discontinuity();
    publish(&mut live, 3).await;
    live.end();
    let found = recorded(end(&handle).await);
    assert_eq!((found.ended, found.segments), (LiveEnd::Finished, 9), "{found:?}");
    check_length(&stage, &found, source.duration_ms(0..9)).await;
}

#[tokio::test]
async fn a_recording_that_is_cancelled_is_kept() {
    let stage = Stage::start().await;
    let source = source(&stage, Segments::Ts, false);
    let mut live = LiveStream::start(&stage.server, &source, "/live");
    live.publish_segment();
    let handle = record(&stage, &live, json!({})).await;
    publish(&mut live, 4).await;
    until_progress(&handle, |it| it.counters.get("segments").is_none_or(|segments| *segments >= 4.0)).await;
    stage.platform.client.cancel(handle.id()).await.unwrap();
    let found = recorded(end(&handle).await);
    assert_eq!(found.ended, LiveEnd::Stopped);
    // The newest may have been on its way.
    assert!((4..=5).contains(&found.segments), "{found:?}");
    check_length(&stage, &found, source.duration_ms(0..usize::try_from(found.segments).unwrap())).await;
    stage.platform.nothing_is_left().await;
}

#[tokio::test]
async fn a_recording_ends_at_its_limit_or_when_the_stream_stays_away() {
    let stage = Stage::start().await;
    let source = source(&stage, Segments::Ts, false);
    let mut live = LiveStream::start(&stage.server, &source, "/limited");
    live.publish_segment();
    let handle = record(&stage, &live, json!({"max_duration_ms": 2_500})).await;
    publish(&mut live, 2).await;
    let found = recorded(end(&handle).await);
    assert_eq!(found.ended, LiveEnd::Limit);
    assert!((2_000..=3_200).contains(&found.duration_ms), "{found:?}");

    let mut live = LiveStream::start(&stage.server, &source, "/lost");
    live.publish_segment();
    let handle = record(&stage, &live, json!({"patience_ms": 1_500})).await;
    publish(&mut live, 2).await;
    live.fail_playlist(1_000_000, 404);
    let found = recorded(end(&handle).await);
    assert_eq!((found.ended, found.segments), (LiveEnd::Lost, 3), "{found:?}");

    // An encoder that died leaves its last playlist behind.
    let mut live = LiveStream::start(&stage.server, &source, "/frozen");
    live.publish_segment();
    let handle = record(&stage, &live, json!({"patience_ms": 1_500})).await;
    publish(&mut live, 2).await;
    let found = recorded(end(&handle).await);
    assert_eq!((found.ended, found.segments), (LiveEnd::Lost, 3), "{found:?}");
}

#[tokio::test]
async fn a_stream_that_is_not_there_yet_is_tried_again_later() {
    let stage = Stage::start().await;
    let handle = stage.submit_kind("audio.live", json!({"url": stage.server.url("/later.m3u8")})).await;
    let job = eventually_async("it waits", async || {
        let job = stage.platform.client.job(handle.id()).await.unwrap();
        (job.state == State::Retrying).then_some(job)
    });
    assert_eq!(code(&job.await), "live_not_started");
    stage.platform.client.cancel(handle.id()).await.unwrap();
    assert_eq!(end(&handle).await.state, State::Cancelled);
}

#[tokio::test]
async fn a_recording_outlives_its_worker() {
    let mut stage = Stage::with(&[("FOURMI_LEASE_MS", "1000")]).await;
    let source = source(&stage, Segments::Ts, false);
    let server = stage.server.clone();
    let mut live = LiveStream::start(&server, &source, "/live");
    live.publish_segment();
    let handle = record(&stage, &live, json!({})).await;
    publish(&mut live, 3).await;
    stage.kill_worker();
    stage.platform.add_worker();
    publish(&mut live, 3).await;
    live.end();
    let job = end(&handle).await;
    assert_eq!((job.run, job.crashes), (2, 0));
    let found = recorded(job);
    // What the window still held is no gap; nothing is there twice.
    assert_eq!((found.segments, found.gaps.len()), (7, 0), "{found:?}");
    check_length(&stage, &found, source.duration_ms(0..7)).await;
}

#[tokio::test]
async fn a_recording_can_be_heard_while_it_grows() {
    let stage = Stage::start().await;
    let source = source(&stage, Segments::Ts, false);
    let mut live = LiveStream::start(&stage.server, &source, "/live");
    live.publish_segment();
    let handle = record(&stage, &live, json!({})).await;
    publish(&mut live, 3).await;
    let growing = async || {
        let job = stage.platform.get(&format!("/jobs/{}", handle.id())).await;
        let file = job["progress"]["file"].as_str()?.to_owned();
        let answer = stage.platform.request("GET", &format!("/files/{file}")).send().await.unwrap();
        answer.status().is_success().then_some(())?;
        Some(answer.bytes().await.unwrap())
    };
    let early =
        eventually_async("there is something to hear", async || growing().await.filter(|it| !it.is_empty())).await;
    publish(&mut live, 3).await;
    eventually_async("it has grown", async || growing().await.filter(|it| it.len() > early.len())).await;
    let path = stage.folder.path().join("early.bin");
    std::fs::write(&path, &early).unwrap();
    let probed = stage.platform.run("media.probe", stage.platform.upload(&path).await, json!({})).await;
    assert_eq!(probed.state, State::Succeeded, "{:?}", probed.error);
    live.end();
    recorded(end(&handle).await);
}
