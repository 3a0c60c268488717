//! What is lost on the way to a stream, and what is not.

use fourmi_model::State;
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::net::TcpSocket;

use fourmi_tests::EventReader;

use super::site::{Followed, Site, succeeded};

#[tokio::test]
async fn a_reader_that_stalls_is_told_that_it_has_missed_something() {
    let site = Site::new(&[]).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let (url, key) = (site.platform.url(), site.platform.key());
    let mut stalled = Followed(EventReader::open_with(socket, url, "/events?tag=a", key, None).await.unwrap());
    let mut quick = site.follow("/events?tag=b").await;
    stalled.until("live").await;
    quick.until("live").await;

    // More than all buffers on the way hold, and a thousand jobs.
    let payload = json!({"text": "x".repeat(8_000)});
    for _ in 0..20 {
        let jobs: Vec<_> = (0..200).map(|_| site.job("media.probe", "a", &payload)).collect();
        site.queues.push_many(site.transitions.queue(), &jobs).await.unwrap();
    }
    // Once a later job is told, all of these have been.
    let last = site.probe("b").await;
    quick.until_state(&last.to_string(), State::Waiting).await;

    let before = stalled.until("gap").await;
    let gap = before.last().unwrap().json();
    assert_eq!(gap["reason"], "slow_reader");
    let missed = gap["missed"].as_u64().unwrap();
    assert!(missed > 0 && missed + 1_000 < 4_000, "{missed}");
    let snapshot = stalled.until("live").await;
    let live = json!({"jobs": 200, "more": true});
    assert_eq!((snapshot.len(), snapshot.last().unwrap().json()), (201, live));
    // What had waited comes next, and makes room.
    for _ in 0..500 {
        stalled.event().await.unwrap();
    }
    let after = site.probe("a").await;
    stalled.until_state(&after.to_string(), State::Waiting).await;
}

#[tokio::test]
async fn no_end_is_missed_when_redis_was_away() {
    let mut site = Site::new(&[]).await;
    let (batch, members) = site.batch(5).await;
    let alone = site.probe("a").await.to_string();
    let mut one = site.follow(&format!("/jobs/{alone}/events")).await;
    let mut some = site.follow(&format!("/flows/{batch}/events")).await;
    let mut all = site.follow("/events").await;
    let claims = site.fetch().await;
    assert_eq!(claims.len(), 6);
    one.until_state(&alone, State::Running).await;
    some.until("live").await;
    all.until("live").await;

    site.platform.redis.kill();
    site.platform.redis.restart();
    site.settle(&claims, &succeeded()).await;
    one.until_state(&alone, State::Succeeded).await;
    assert!(one.event().await.is_none() && one.0.ended);
    let mut left: Vec<_> = members.clone();
    while let Some(event) = some.event().await {
        if event.json()["state"] == "succeeded" {
            left.retain(|id| event.json()["id"] != **id);
            assert!(event.json()["id"] != batch || left.is_empty(), "the batch ends last");
        }
    }
    assert!(some.0.ended && left.is_empty(), "{left:?}");
    let mut left: Vec<_> = [&members[..], &[alone, batch]].concat();
    let mut gap = None;
    while !left.is_empty() || gap.is_none() {
        let event = all.event().await.unwrap();
        match event.name.as_str() {
            "gap" => gap = Some(event.json()["reason"].clone()),
            _ if event.json()["state"] == "succeeded" => left.retain(|id| event.json()["id"] != **id),
            _ => {}
        }
    }
    assert_eq!(gap.unwrap(), "interrupted");
}

#[tokio::test]
async fn a_server_that_stops_ends_its_streams_and_says_when_to_come_back() {
    let mut site = Site::new(&[]).await;
    let (batch, _) = site.batch(2).await;
    let id = site.probe("a").await;
    let mut streams = Vec::new();
    for path in [format!("/jobs/{id}/events"), format!("/flows/{batch}/events"), "/events".to_owned()] {
        let mut stream = site.follow(&path).await;
        assert_eq!(stream.block().await.unwrap().retry_ms, Some(2_000));
        stream.event().await.unwrap();
        streams.push(stream);
    }
    site.platform.api.signal(Signal::SIGTERM);
    for mut stream in streams {
        let mut last = None;
        while let Some(block) = stream.block().await {
            last = Some(block);
        }
        let last = last.unwrap();
        assert!(stream.0.ended && last.comment.contains("come back"), "{last:?}");
        assert!((1_000..5_000).contains(&last.retry_ms.unwrap()));
    }
    assert!(site.platform.api.wait().success());
}
