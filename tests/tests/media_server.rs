//! The server that tests fetch from, itself tested: what it serves well, and what it does badly on request.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use fourmi_tests::{
    Recording,
    media_server::{Answer, Content, LiveSource, LiveStream, MediaServer, Route, Segments, dash, gzipped, hls},
};
use futures_util::StreamExt;
use reqwest::{Client, redirect::Policy};
use tempfile::TempDir;

const TEXT: &[u8] = b"0123456789";

/// A client that does not follow redirects.
fn client() -> Client {
    client_that_waits(Duration::from_secs(60))
}

fn client_that_waits(silence: Duration) -> Client {
    // Another test may have chosen it already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().redirect(Policy::none()).read_timeout(silence).build().unwrap()
}

#[tokio::test]
async fn content_comes_whole_and_in_parts() {
    let (server, client) = (MediaServer::start(), client());
    let url = server.route("/a.mp3", Route::new(TEXT, "audio/mpeg").etag("one").etag_from(5, "two"));
    let whole = client.get(&url).send().await.unwrap();
    assert_eq!((whole.headers()["etag"].to_str().unwrap(), whole.content_length()), ("\"one\"", Some(10)));
    assert_eq!(whole.bytes().await.unwrap(), TEXT);
    let part = |range: &str, tag: &str| client.get(&url).header("range", range).header("if-range", tag).send();
    let tail = part("bytes=7-", "\"one\"").await.unwrap();
    assert_eq!((tail.status().as_u16(), tail.headers()["content-range"].to_str().unwrap()), (206, "bytes 7-9/10"));
    assert_eq!(tail.text().await.unwrap(), "789");
    assert_eq!(part("bytes=-2", "\"one\"").await.unwrap().text().await.unwrap(), "89");
    assert_eq!(part("bytes=10-", "\"one\"").await.unwrap().status(), 416);
    // It changed meanwhile.
    let changed = part("bytes=7-", "\"one\"").await.unwrap();
    assert_eq!((changed.status().as_u16(), changed.bytes().await.unwrap().len()), (200, 10));
    assert_eq!(client.head(&url).send().await.unwrap().headers()["content-length"], "10");
    assert_eq!(server.bytes_sent("/a.mp3"), 10 + 3 + 2 + 10);
    let second = server.wait_for_request("/a.mp3", 2).await;
    assert_eq!((second.method.as_str(), second.offset()), ("GET", Some(7)));

    let plain = server.route("/plain.mp3", Route::new(TEXT, "audio/mpeg").without_ranges());
    let whole = client.get(plain).header("range", "bytes=7-").send().await.unwrap();
    assert_eq!((whole.status().as_u16(), whole.headers().get("etag")), (200, None));
    assert_eq!(client.get(server.url("/nowhere")).send().await.unwrap().status(), 404);
    let large = server.route("/large", Route::new(Content::padded(TEXT, 1_000_000), "video/mp4"));
    assert_eq!(client.get(large).send().await.unwrap().bytes().await.unwrap().len(), 1_000_010);
}

#[tokio::test]
async fn answers_are_as_bad_as_asked_for() {
    let (server, client) = (MediaServer::start(), client_that_waits(Duration::from_millis(500)));
    let route = |answer: Answer| server.route("/x", Route::new(TEXT, "audio/mpeg").first(1, answer));
    let get = async |answer: Answer| client.get(route(answer)).send().await;

    let busy = get(Answer::Status(429, Some(7))).await.unwrap();
    assert_eq!((busy.status().as_u16(), busy.headers()["retry-after"].to_str().unwrap()), (429, "7"));
    assert_eq!(client.get(server.url("/x")).send().await.unwrap().status(), 200);
    let moved = get(Answer::Redirect(302, "http://[::1]/".to_owned())).await.unwrap();
    assert_eq!((moved.status().as_u16(), moved.headers()["location"].to_str().unwrap()), (302, "http://[::1]/"));
    assert!(get(Answer::Silence).await.unwrap_err().is_timeout());
    assert!(get(Answer::HangUp).await.is_err());
    for broken in [Answer::CutAfter(4), Answer::StallAfter(4), Answer::Announce(12)] {
        let mut stream = get(broken.clone()).await.unwrap().bytes_stream();
        let got = stream.next().await.unwrap().unwrap().len();
        assert_eq!(got, if matches!(broken, Answer::Announce(_)) { 10 } else { 4 });
        assert!(stream.next().await.unwrap().is_err(), "{broken:?}");
    }
    assert_eq!(get(Answer::Announce(4)).await.unwrap().text().await.unwrap(), "0123");
    let chunked = get(Answer::Chunked).await.unwrap();
    assert_eq!(chunked.content_length(), None);
    assert_eq!(chunked.bytes().await.unwrap(), TEXT);
    let mut endless = get(Answer::Endless).await.unwrap().bytes_stream();
    let mut got = 0;
    while got < 1_000 {
        got += endless.next().await.unwrap().unwrap().len();
    }
    assert_eq!(get(Answer::Throttled(1_000)).await.unwrap().bytes().await.unwrap(), TEXT);
    let zipped = Route::new(gzipped(TEXT), "text/plain").header("content-encoding", "gzip");
    let zipped = client.get(server.route("/z", zipped)).send().await.unwrap().bytes().await.unwrap();
    assert_eq!(zipped[..2], [0x1f, 0x8b]);
}

#[tokio::test]
async fn a_held_body_goes_on_when_it_is_released() {
    let (server, client) = (MediaServer::start(), client());
    let url = server.route("/a.mp4", Route::new(TEXT, "video/mp4"));
    server.hold("/a.mp4", 4);
    let fetch = tokio::spawn(client.get(&url).send());
    server.wait_until_held("/a.mp4").await;
    assert_eq!(server.bytes_sent("/a.mp4"), 4);
    server.release("/a.mp4");
    assert_eq!(fetch.await.unwrap().unwrap().bytes().await.unwrap(), TEXT);

    server.stop_listening().await;
    assert!(client.get(&url).send().await.is_err());
    server.listen_again();
    assert_eq!(client.get(&url).send().await.unwrap().bytes().await.unwrap(), TEXT);
}

#[tokio::test]
async fn streams_are_cut_and_broadcast() {
    let (server, client, folder) = (MediaServer::start(), client(), TempDir::new().unwrap());
    let recording = Recording::default().make(folder.path(), "a.mp4");
    hls(&folder.path().join("hls"), &recording, Segments::Ts, true, 2);
    dash(&folder.path().join("dash"), &recording);
    server.folder("/hls", &folder.path().join("hls"));
    server.folder("/dash", &folder.path().join("dash"));
    let get = async |path: &str| client.get(server.url(path)).send().await.unwrap().text().await.unwrap();
    assert!(get("/hls/index.m3u8").await.contains("segment-002.ts"));
    assert!(get("/dash/manifest.mpd").await.contains("<MPD"));

    for kind in [Segments::Ts, Segments::Fmp4] {
        let source = LiveSource::cut(&folder.path().join(format!("{kind:?}")), &recording, kind, false);
        assert!((6..=7).contains(&source.len()), "{}", source.len());
        assert!(source.duration_ms(0..source.len()).abs_diff(6_000) < 100);
        let mut live = LiveStream::start(&server, &source, "/live");
        let playlist = live.playlist();
        live.publish_segment();
        let segment = live.publish_segment();
        live.skip_segments(2);
        live.discontinuity();
        live.publish_segment();
        let text = get(&playlist).await;
        assert!(text.contains("#EXT-X-MEDIA-SEQUENCE:4\n") && text.contains("#EXT-X-DISCONTINUITY\n"), "{text}");
        assert_eq!(text.contains("#EXT-X-MAP:URI=\"init.mp4\""), kind == Segments::Fmp4);
        live.fail_playlist(1, 503);
        assert_eq!(client.get(live.url()).send().await.unwrap().status(), 503);
        assert_eq!(client.get(server.url(&segment)).send().await.unwrap().status(), 200);
        live.restart();
        live.publish_segment();
        live.end();
        let text = get(&playlist).await;
        assert!(text.contains("#EXT-X-MEDIA-SEQUENCE:0\n") && text.ends_with("#EXT-X-ENDLIST\n"), "{text}");
    }
}
