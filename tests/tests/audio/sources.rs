//! Every sort of address, and everything that is made by default.

use std::collections::BTreeSet;

use fourmi_client::Update;
use fourmi_model::{Progress, State};
use fourmi_tests::{
    eventually_async,
    media_server::{
        Answer, MediaServer, Route, Segments, chapters_of, cover, dash, hls, page_with_og_video, page_with_video,
        width_of,
    },
};
use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::stage::{Stage, end, plain, result};

/// Serves the same recording in every way, and gives an address of each.
fn every_sort(stage: &Stage) -> Vec<(&'static str, String)> {
    let recording = stage.recording("a.mp4");
    let server: &MediaServer = &stage.server;
    let folder = |name: &str| stage.folder.path().join(name);
    hls(&folder("ts"), &recording, Segments::Ts, true, 2);
    hls(&folder("fmp4"), &recording, Segments::Fmp4, false, 2);
    dash(&folder("dash"), &recording);
    for name in ["ts", "fmp4", "dash"] {
        server.folder(&format!("/{name}"), &folder(name));
    }
    let master = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=900000,CODECS=\"avc1.42c01e,mp4a.40.2\"\nts/index.m3u8\n";
    let master = Route::new(master.as_bytes(), "application/vnd.apple.mpegurl");
    let video = server.route("/media/a.mp4", Route::file(&recording));
    let og = page_with_og_video("Débat du soir", &video, &server.url("/cover.jpg"));
    vec![
        ("HLS in TS", server.url("/ts/index.m3u8")),
        ("HLS in fMP4", server.url("/fmp4/index.m3u8")),
        ("HLS with variants", server.route("/master.m3u8", master)),
        ("DASH", server.url("/dash/manifest.mpd")),
        ("<video>", server.route("/pages/video", Route::html(page_with_video("Séance", "../media/a.mp4")))),
        ("<video> of HLS", server.route("/pages/hls", Route::html(page_with_video("Séance", "/ts/index.m3u8")))),
        ("og:video", server.route("/pages/og?id=1&lang=fr", Route::html(og))),
        ("a file", video),
    ]
}

#[tokio::test]
async fn every_sort_of_address_gives_its_sound() {
    let stage = Stage::start().await;
    let mut mistakes = Vec::new();
    for (sort, url) in every_sort(&stage) {
        let job = stage.extract(&url, json!({"format": "opus", "thumbnails": "off"})).await;
        if job.state != State::Succeeded {
            mistakes.push(format!("{sort}: {:?}", job.error));
            continue;
        }
        let found = result(job);
        let source = found.source.as_ref().unwrap();
        let right = found.duration_ms.abs_diff(6_000) < 200
            && found.codec.name == "opus"
            && source.url == url
            && !source.canonical_id.is_empty()
            && source.sha256.len() == 64
            && source.bytes > 10_000;
        if !right {
            mistakes.push(format!("{sort}: {found:#?}"));
        }
    }
    assert!(mistakes.is_empty(), "{}", mistakes.join("\n"));
    stage.platform.nothing_is_left().await;
    stage.no_process_is_left();
}

#[tokio::test]
async fn a_source_that_wants_a_login_gets_the_cookies_that_the_operator_keeps() {
    let stage = Stage::start().await;
    let server = &stage.server;
    let video = server.route("/media/a.mp4", Route::file(&stage.recording("a.mp4")));
    let url = server.route("/club", Route::html(page_with_video("Club", &video)));
    let with_login = json!({"normalize": "off", "cookies_ref": "club"});

    let handle = stage.submit(&url, with_login.clone()).await;
    let parked = eventually_async("it waits for the secret", async || {
        let job = stage.platform.client.job(handle.id()).await.unwrap();
        (job.state == State::Parked).then_some(job)
    });
    assert!(parked.await.error.unwrap().message.contains("club"));
    stage.platform.client.cancel(handle.id()).await.unwrap();

    let secrets = stage.platform.data().join("secrets");
    std::fs::create_dir_all(&secrets).unwrap();
    let cookies = "# Netscape HTTP Cookie File\n127.0.0.1\tFALSE\t/\tFALSE\t0\tsession\topen-sesame\n";
    std::fs::write(secrets.join("club"), cookies).unwrap();
    stage.extracted(&url, with_login).await;
    let asked = server.requests("/club");
    assert!(asked.iter().all(|request| request.header("cookie") == Some("session=open-sesame")), "{asked:?}");
    // Who has no login does not get what was fetched with it.
    stage.extracted(&url, plain()).await;
    assert!(server.requests("/club").len() > asked.len());
    assert_eq!(server.requests("/club").last().unwrap().header("cookie"), None);
}

#[tokio::test]
async fn a_page_gives_everything_by_default() {
    let stage = Stage::start().await;
    let server = &stage.server;
    let video = server.route("/media/a.mp4", Route::file(&stage.recording("a.mp4")));
    let picture = server.route("/cover.jpg", Route::file(&cover(stage.folder.path())));
    let url = server.route("/debat", Route::html(page_with_og_video("Débat du soir", &video, &picture)));
    let found = stage.extracted(&url, json!({})).await;
    let roles: BTreeSet<&str> = found.files.iter().map(|file| file.role.as_str()).collect();
    let all = ["audio", "chapters", "chapters_vtt", "cover", "info", "thumbnail", "waveform"];
    assert_eq!(roles, BTreeSet::from(all));
    let source = found.source.as_ref().unwrap();
    assert_eq!((source.url.as_str(), source.title.as_deref()), (url.as_str(), Some("Débat du soir")));
    assert_eq!(source.page.as_deref(), Some(url.as_str()));
    assert_eq!(found.tags["title"], "Débat du soir");
    let loudness = found.loudness.as_ref().unwrap();
    assert!((loudness.output_i.unwrap() + 16.0).abs() <= 0.5, "{loudness:?}");
    assert!(loudness.output_tp.unwrap() <= -1.5 + 0.1, "{loudness:?}");

    // The chapters inside are those beside it, and those of the result.
    let audio = found.file("audio").unwrap();
    assert_eq!(audio.media_type, "audio/mp4");
    let path = stage.folder.path().join("down.m4a");
    stage.platform.client.download(audio.file).sha256(&audio.sha256).to(&path).await.unwrap();
    let inside = chapters_of(&path);
    let said: Vec<_> = found.chapters.iter().map(|it| (it.start_ms, it.end_ms, it.title.clone())).collect();
    assert_eq!(inside, said);
    let beside: Value = serde_json::from_slice(&stage.content(found.file("chapters").unwrap()).await).unwrap();
    let ms = |seconds: &Value| (seconds.as_f64().unwrap() * 1_000.0).round() as u64;
    let beside: Vec<_> = beside["chapters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (ms(&it["startTime"]), ms(&it["endTime"]), it["title"].as_str().unwrap()))
        .collect();
    assert!(inside.iter().map(|(start, end, title)| (*start, *end, title.as_str())).eq(beside));
    let vtt = String::from_utf8(stage.content(found.file("chapters_vtt").unwrap()).await).unwrap();
    assert!(vtt.starts_with("WEBVTT") && vtt.contains("00:00:03.000 --> ") && vtt.contains("Débat"), "{vtt}");

    let waveform: Value = serde_json::from_slice(&stage.content(found.file("waveform").unwrap()).await).unwrap();
    assert_eq!((waveform["version"].as_u64(), waveform["bits"].as_u64()), (Some(2), Some(8)));
    let points = waveform["length"].as_u64().unwrap();
    assert!(points.abs_diff(120) <= 2, "{points} points for six seconds");
    let info: Value = serde_json::from_slice(&stage.content(found.file("info").unwrap()).await).unwrap();
    assert!(info.to_string().contains("Débat du soir"), "{info}");
    for (role, longest) in [("cover", 640), ("thumbnail", 320)] {
        let bytes = stage.content(found.file(role).unwrap()).await;
        assert_eq!(bytes[..3], [0xff, 0xd8, 0xff], "{role} is a JPEG");
        let path = stage.folder.path().join(format!("{role}.jpg"));
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(width_of(&path), longest, "{role}");
    }
    // What comes out is served in parts.
    let part = stage.platform.request("GET", &format!("/files/{}", audio.file)).header("range", "bytes=100-199");
    let part = part.send().await.unwrap();
    assert_eq!(part.status(), 206);
    assert_eq!(part.bytes().await.unwrap(), std::fs::read(&path).unwrap()[100..200]);
}

#[tokio::test]
async fn a_run_says_where_it_is_and_never_goes_back() {
    let stage = Stage::start().await;
    let recording = stage.recording("a.mp4");
    let bytes = std::fs::metadata(&recording).unwrap().len();
    let slow = Route::file(&recording).always(Answer::Throttled(bytes / 2));
    let url = stage.server.route("/a.mp4", slow);
    let handle = stage.submit(&url, json!({"hls": {}})).await;
    let mut updates = handle.events();
    let mut seen: Vec<Progress> = Vec::new();
    while let Some(update) = updates.next().await {
        if let Update::Progress { progress, .. } = update.unwrap() {
            seen.push(progress);
        }
    }
    result(end(&handle).await);
    let stages = ["resolve", "probe", "download", "analyse", "transcode", "tag", "waveform", "segment", "store"];
    let place = |progress: &Progress| stages.iter().position(|stage| *stage == progress.stage);
    assert!(seen.iter().all(|progress| place(progress).is_some()), "{seen:#?}");
    assert!(seen.iter().map(place).is_sorted(), "stages follow one another: {seen:#?}");
    assert!(seen.iter().map(|it| it.percent).is_sorted());
    // Where each stage ends at the latest.
    let ends = [5.0, 8.0, 60.0, 70.0, 90.0, 93.0, 96.0, 98.0, 100.0];
    for progress in &seen {
        assert!(progress.percent <= ends[place(progress).unwrap()], "{progress:?}");
        assert!(
            (0.0..=100.0).contains(&progress.counters.get("stage_percent").copied().unwrap_or(0.0)),
            "{progress:?}"
        );
    }
    let downloads: Vec<&Progress> = seen.iter().filter(|it| it.stage == "download").collect();
    assert!(downloads.len() >= 5, "two seconds of download give more than {} reports", downloads.len());
    let counter = |progress: &Progress, name: &str| progress.counters.get(name).copied().unwrap_or(0.0);
    assert!(downloads.iter().map(|it| counter(it, "downloaded_bytes")).is_sorted());
    let last = downloads.last().unwrap();
    assert_eq!(counter(last, "total_bytes"), bytes as f64);
    assert!(counter(last, "downloaded_bytes") > bytes as f64 * 0.5);
    let speed = counter(last, "bytes_per_s");
    assert!(speed > bytes as f64 * 0.2 && speed < bytes as f64, "{speed} bytes/s of {bytes} in 2 s");
    assert!(downloads.iter().any(|it| it.eta_ms.is_some()));
}

#[tokio::test]
async fn a_rate_limit_is_kept() {
    let stage = Stage::start().await;
    let recording = stage.recording("a.mp4");
    let bytes = std::fs::metadata(&recording).unwrap().len();
    let url = stage.server.route("/a.mp4", Route::file(&recording));
    let mut options = plain();
    options["rate_limit"] = (bytes / 2).into();
    let found = stage.extracted(&url, options).await;
    let took = found.timings_ms["download"];
    // The first second's worth may come at once.
    assert!((900..8_000).contains(&took), "half of it a second: {took} ms");
}
