//! What a source answers, and what becomes of the job.

use std::time::Duration;

use fourmi_model::{ErrorReport, Job, State};
use fourmi_tests::{
    Recording,
    media_server::{Answer, MediaServer, Route, gzipped},
};
use futures_util::future::join_all;
use serde_json::json;

use crate::stage::{Stage, code, plain, plain_and_new, result};

/// What a failed job must say.
struct Expected {
    name: &'static str,
    route: Route,
    codes: &'static [&'static str],
    retryable: bool,
    retry_after_ms: Option<u64>,
}

fn permanent(name: &'static str, route: impl Into<Route>, codes: &'static [&'static str]) -> Expected {
    Expected { name, route: route.into(), codes, retryable: false, retry_after_ms: None }
}

fn temporary(name: &'static str, route: impl Into<Route>, codes: &'static [&'static str]) -> Expected {
    Expected { name, route: route.into(), codes, retryable: true, retry_after_ms: None }
}

impl Expected {
    /// What is wrong, if anything is.
    fn mistake(&self, job: &Job) -> Option<String> {
        let runs = if self.retryable { 2 } else { 1 };
        let Some(ErrorReport { code, retryable, retry_after_ms, message, .. }) = &job.error else {
            return Some(format!("{}: {}", self.name, job.state));
        };
        let right = job.state == State::Failed
            && self.codes.contains(&code.as_str())
            && (*retryable, *retry_after_ms, job.run, job.crashes) == (self.retryable, self.retry_after_ms, runs, 0)
            && message.len() > 10;
        (!right).then(|| {
            format!(
                "{}: {code} (retryable {retryable}, after {retry_after_ms:?}, run {}, crashes {}): {message}",
                self.name, job.run, job.crashes
            )
        })
    }
}

async fn check(stage: &Stage, cases: Vec<Expected>) {
    let jobs = cases.iter().map(|case| {
        let url = stage.server.route(case.name, case.route.clone());
        async move { case.mistake(&stage.extract(&url, plain()).await) }
    });
    let mistakes: Vec<String> = join_all(jobs).await.into_iter().flatten().collect();
    assert!(mistakes.is_empty(), "{}", mistakes.join("\n"));
    stage.platform.nothing_is_left().await;
    stage.no_process_is_left();
}

#[tokio::test]
async fn a_status_says_whether_it_is_worth_another_try() {
    let stage = Stage::start().await;
    let status = |status: u16| Answer::status(status);
    let mut cases = vec![
        permanent("/401.mp4", status(401), &["login_required"]),
        permanent("/403.mp4", status(403), &["forbidden_by_source"]),
        permanent("/404.mp4", status(404), &["source_gone"]),
        permanent("/410.mp4", status(410), &["source_gone"]),
        permanent("/451.mp4", status(451), &["geo_blocked"]),
        // The same on a page, where another program fetches.
        permanent("/pages/404", status(404), &["source_gone"]),
        permanent("/pages/403", status(403), &["forbidden_by_source"]),
        temporary("/429.mp4", status(429), &["rate_limited_by_source"]),
        temporary("/500.mp4", status(500), &["source_unreachable"]),
        temporary("/503.mp4", status(503), &["source_unreachable"]),
        temporary("/hang-up.mp4", Answer::HangUp, &["source_unreachable"]),
        temporary("/pages/503", status(503), &["source_unreachable"]),
    ];
    for (name, status, code) in
        [("/429-1.mp4", 429, &["rate_limited_by_source"][..]), ("/503-1.mp4", 503, &["source_unreachable"])]
    {
        let case = temporary(name, Answer::Status(status, Some(1)), code);
        cases.push(Expected { retry_after_ms: Some(1_000), ..case });
    }
    check(&stage, cases).await;
}

#[tokio::test]
async fn a_source_that_asks_for_patience_gets_it() {
    let stage = Stage::start().await;
    let recording = stage.recording("a.mp4");
    let busy = Answer::Status(429, Some(2));
    let url = stage.server.route("/a.mp4", Route::file(&recording).first(1, busy));
    let job = stage.extract(&url, plain()).await;
    let runs = stage.platform.client.runs(&job.id).await.unwrap();
    let error = &runs[0].error;
    assert_eq!((error.code.as_str(), error.retry_after_ms), ("rate_limited_by_source", Some(2_000)));
    result(job);
    let requests = stage.server.requests("/a.mp4");
    assert!(requests[1].at - requests[0].at >= Duration::from_secs(2));
}

#[tokio::test]
async fn silence_counts_as_absence_after_a_while() {
    let stage = Stage::hasty(&[]).await;
    let recording = stage.recording("a.mp4");
    let half = std::fs::metadata(&recording).unwrap().len() / 2;
    let closed = MediaServer::start();
    let cases = vec![
        temporary("/silent.mp4", Answer::Silence, &["source_timeout"]),
        // No range helps: every answer stops before its first byte.
        temporary("/stalls.mp4", Route::file(&recording).always(Answer::StallAfter(0)), &["source_timeout"]),
        temporary(
            "/stalls-later.mp4",
            Route::file(&recording).without_ranges().always(Answer::StallAfter(half)),
            &["source_timeout"],
        ),
        temporary("/pages/silent", Answer::Silence, &["source_timeout"]),
    ];
    check(&stage, cases).await;

    // Nobody listens at an address that may be reached, or nobody has that name.
    let address = closed.address().to_string();
    closed.stop_listening().await;
    let away = Stage::hasty(&[("FOURMI_EGRESS_ALLOW", &address)]).await;
    for url in [closed.url("/a.mp4"), "http://nowhere.invalid/a.mp4".to_owned()] {
        let job = away.extract(&url, plain()).await;
        assert_eq!((code(&job), job.run), ("source_unreachable", 2), "{url}: {:?}", job.error);
    }
}

#[tokio::test]
async fn what_is_no_recording_says_so_at_once() {
    let stage = Stage::start().await;
    let page = "<!doctype html><html><head><title>Rien</title></head><body><p>Rien à voir.</p></body></html>";
    let garbage: Vec<u8> = (0..200_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let silent = Recording { sound: false, ..Recording::default() }.make(stage.folder.path(), "silent.mp4");
    check(
        &stage,
        vec![
            permanent("/page", Route::html(page), &["unsupported_url"]),
            permanent("/page.mp4", Route::html(page), &["unsupported_url"]),
            permanent("/lies.mp4", Route::new(page.as_bytes(), "video/mp4"), &["unsupported_url"]),
            permanent("/garbage.mp4", Route::new(garbage, "video/mp4"), &["not_media", "unsupported_url"]),
            permanent("/empty.mp4", Route::new(Vec::new(), "video/mp4"), &["empty_file", "not_media"]),
            permanent("/text", Route::new("hello".as_bytes(), "text/plain"), &["unsupported_url", "not_media"]),
            permanent("/silent.mp4", Route::file(&silent), &["no_audio_stream"]),
        ],
    )
    .await;
}

#[tokio::test]
async fn lengths_that_are_wrong_are_noticed() {
    let stage = Stage::start().await;
    let recording = std::fs::read(stage.recording("a.mp4")).unwrap();
    let length = recording.len() as u64;
    let route = |answer: Answer| Route::new(recording.clone(), "video/mp4").always(answer);
    let cut = &["truncated_media", "source_unreachable"][..];
    let cases = [
        ("/longer.mp4", route(Answer::Announce(length + 1_000)).without_ranges(), cut),
        ("/shorter.mp4", route(Answer::Announce(length / 2)), &["truncated_media", "not_media", "corrupt_media"]),
        ("/cut.mp4", route(Answer::CutAfter(length / 2)).without_ranges(), cut),
    ];
    let jobs = cases.map(|(path, route, codes)| {
        let (url, stage) = (stage.server.route(path, route), &stage);
        async move {
            let job = stage.extract(&url, plain()).await;
            assert_eq!((job.state, job.crashes), (State::Failed, 0), "{path}: {:?}", job.result);
            assert!(codes.contains(&code(&job)), "{path}: {:?}", job.error);
        }
    });
    join_all(jobs).await;
    // Who asks for the rest learns that there is none: the recording is whole.
    let url = stage.server.route("/longer-with-ranges.mp4", route(Answer::Announce(length + 1_000)));
    assert_eq!(stage.extracted(&url, plain()).await.source.unwrap().bytes, length);
    stage.platform.nothing_is_left().await;
}

#[tokio::test]
async fn limits_hold_whether_or_not_a_length_is_announced() {
    let stage = Stage::with(&[("FOURMI_MEDIA_MAX_BYTES", "2MiB")]).await;
    let recording = stage.recording("a.mp4");
    let sound = Recording { picture: None, ..Recording::default() }.make(stage.folder.path(), "a.mp3");
    let large = fourmi_tests::media_server::Content::padded(std::fs::read(&recording).unwrap(), 64 << 20);
    check(
        &stage,
        vec![
            permanent("/endless.mp3", Route::file(&sound).always(Answer::Endless), &["size_exceeded"]),
            permanent("/large.mp4", Route::new(large, "video/mp4"), &["size_exceeded"]),
        ],
    )
    .await;
    for path in ["/endless.mp3", "/large.mp4"] {
        // The sockets on both sides of the proxy hold up to ten megabytes each that nobody reads.
        assert!(stage.server.bytes_sent(path) < 32 << 20, "{path}: {}", stage.server.bytes_sent(path));
    }
    let url = stage.server.route("/a.mp4", Route::file(&recording));
    for (limit, expected) in [("max_bytes", "size_exceeded"), ("max_duration_ms", "duration_exceeded")] {
        let mut options = plain_and_new();
        options[limit] = 3_000.into();
        let job = stage.extract(&url, options).await;
        assert_eq!((code(&job), job.run), (expected, 1), "{:?}", job.error);
    }
    result(stage.extract(&url, plain()).await);
}

#[tokio::test]
async fn a_recording_is_known_by_its_content() {
    let stage = Stage::start().await;
    let video = std::fs::read(stage.recording("a.mp4")).unwrap();
    let sound = Recording { picture: None, ..Recording::default() }.make(stage.folder.path(), "a.mp3");
    let sound = std::fs::read(sound).unwrap();
    let routes = [
        ("/download?id=1", Route::new(video.clone(), "application/octet-stream")),
        ("/a.bin", Route::new(sound.clone(), "text/plain")),
        ("/a.html", Route::new(sound, "text/html")),
        ("/chunked.mp4", Route::new(video.clone(), "video/mp4").always(Answer::Chunked)),
        ("/bare.mp4", Route::new(video.clone(), "video/mp4").without_ranges()),
    ];
    let jobs = routes.map(|(path, route)| {
        let (url, stage) = (stage.server.route(path, route), &stage);
        async move {
            let found = stage.extracted(&url, plain_and_new()).await;
            assert!(found.duration_ms.abs_diff(6_000) < 150, "{path}: {}", found.duration_ms);
        }
    });
    join_all(jobs).await;

    // Compressed though nobody asked for it: read, or refused for good.
    let zipped = Route::new(gzipped(&video), "video/mp4").header("content-encoding", "gzip");
    let job = stage.extract(&stage.server.route("/zipped.mp4", zipped), plain()).await;
    let asked = stage.server.requests("/zipped.mp4").iter().any(|it| it.header("accept-encoding") == Some("gzip"));
    assert!(!asked, "a recording is compressed already");
    assert!(job.state == State::Succeeded || job.error.is_some_and(|error| !error.retryable));

    // Over redirects, but not round in circles.
    stage.server.route("/a.mp4", Route::new(video, "video/mp4"));
    stage.server.route("/third", Answer::Redirect(307, "/a.mp4".to_owned()));
    stage.server.route("/second", Answer::Redirect(302, stage.server.url("/third")));
    let first = stage.server.route("/first", Answer::Redirect(301, "/second".to_owned()));
    result(stage.extract(&first, plain_and_new()).await);
    let round = stage.server.route("/round", Answer::Redirect(302, "/round".to_owned()));
    let job = stage.extract(&round, json!({})).await;
    assert_eq!((job.state, job.run), (State::Failed, 1), "{:?}", job.error);
    assert!(stage.server.requests("/round").len() < 60);
}
