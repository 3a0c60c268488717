//! The inside of the operator's network is not reached, whatever leads there.

use fourmi_model::State;
use fourmi_tests::media_server::{
    Answer, LiveSource, LiveStream, MediaServer, Route, Segments, hls, page_with_og_video, page_with_video,
};
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::stage::{Stage, code, end, plain, result};

/// A server that nobody may reach.
struct Inside {
    server: MediaServer,
    port: u16,
}

impl Inside {
    /// One that has what is looked for, so that it would be used if it were reached.
    fn with(stage: &Stage) -> Self {
        let server = MediaServer::start();
        server.route("/a.mp4", Route::file(&stage.recording("a.mp4")));
        let port = server.address().port();
        Self { server, port }
    }

    fn is_untouched(&self) {
        assert!(self.server.all_requests().is_empty(), "{:#?}", self.server.all_requests());
    }
}

#[tokio::test]
async fn addresses_of_the_inside_are_refused_however_they_are_written() {
    let stage = Stage::start().await;
    let inside = Inside::with(&stage);
    let hosts = [
        "127.0.0.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "127.0.0.1.",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "localhost",
        "LOCALHOST",
        "0.0.0.0",
        "0",
    ];
    let port = inside.port;
    let mut urls: Vec<String> = hosts.iter().map(|host| format!("http://{host}:{port}/a.mp4")).collect();
    urls.push(format!("https://127.0.0.1:{port}/a.mp4"));
    urls.push(format!("http://127.0.0.1:{port}/live.m3u8"));
    urls.push(format!("http://127.0.0.1:{port}/"));
    let far = ["http://169.254.169.254/latest/meta-data/", "http://10.0.0.1/a.mp4", "http://192.168.1.1/a.mp4"];
    urls.extend(far.map(str::to_owned));
    urls.push("http://[fd00::1]/a.mp4".to_owned());
    urls.push("http://[fe80::1]/a.mp4".to_owned());
    urls.push("http://100.64.0.1/a.mp4".to_owned());
    let stage = &stage;
    let jobs = urls.iter().map(|url| async move {
        let job = stage.extract(url, plain()).await;
        let right = (job.state, code(&job), job.run) == (State::Failed, "address_forbidden", 1);
        (!right).then(|| format!("{url}: {} after {} runs, {:?}", job.state, job.run, job.error))
    });
    let mistakes: Vec<String> = join_all(jobs).await.into_iter().flatten().collect();
    inside.is_untouched();
    assert!(mistakes.is_empty(), "{}", mistakes.join("\n"));
}

#[tokio::test]
async fn what_leads_inside_is_not_followed() {
    let stage = Stage::start().await;
    let inside = Inside::with(&stage);
    let secret = inside.server.url("/a.mp4");
    let playlist = |segment: &str, more: &str| {
        let text = format!(
            "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:6\n{more}#EXTINF:6,\n{segment}\n#EXT-X-ENDLIST\n"
        );
        Route::new(text.into_bytes(), "application/vnd.apple.mpegurl")
    };
    let recording = stage.recording("b.mp4");
    hls(&stage.folder.path().join("hls"), &recording, Segments::Ts, false, 2);
    stage.server.folder("/hls", &stage.folder.path().join("hls"));
    let master =
        format!("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=64000,CODECS=\"mp4a.40.2\"\n{}\n", inside.server.url("/x.m3u8"));
    let manifest = format!(
        "<?xml version=\"1.0\"?><MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" type=\"static\" \
         mediaPresentationDuration=\"PT6S\"><Period><AdaptationSet mimeType=\"audio/mp4\"><Representation id=\"1\" \
         bandwidth=\"64000\" codecs=\"mp4a.40.2\"><BaseURL>{secret}</BaseURL></Representation></AdaptationSet></Period></MPD>"
    );
    let key = format!("#EXT-X-KEY:METHOD=AES-128,URI=\"{}\"\n", inside.server.url("/key"));
    let map = format!("#EXT-X-MAP:URI=\"{}\"\n", inside.server.url("/init.mp4"));
    let doors = [
        ("/redirect.mp4", Answer::Redirect(302, secret.clone()).into()),
        ("/redirect-page", Answer::Redirect(307, inside.server.url("/")).into()),
        ("/segments.m3u8", playlist(&secret, "")),
        ("/key.m3u8", playlist("/hls/segment-000.ts", &key)),
        ("/map.m3u8", playlist("/hls/segment-000.ts", &map)),
        ("/master.m3u8", Route::new(master.into_bytes(), "application/vnd.apple.mpegurl")),
        ("/manifest.mpd", Route::new(manifest.into_bytes(), "application/dash+xml")),
        ("/video-page", Route::html(page_with_video("Dedans", &secret))),
        ("/og-page", Route::html(page_with_og_video("Dedans", &secret, "/none.jpg"))),
        ("/redirected-segment.m3u8", playlist("/redirect.mp4", "")),
    ];
    let jobs = doors.map(|(path, route)| {
        let (url, stage) = (stage.server.route(path, route), &stage);
        async move {
            let job = stage.extract(&url, plain()).await;
            let right = (job.state, code(&job), job.run) == (State::Failed, "address_forbidden", 1);
            (!right).then(|| format!("{path}: {} after {} runs, {:?}", job.state, job.run, job.error))
        }
    });
    let mistakes: Vec<String> = join_all(jobs).await.into_iter().flatten().collect();
    inside.is_untouched();
    assert!(mistakes.is_empty(), "{}", mistakes.join("\n"));

    // Files of the worker's own are no segments either.
    for segment in ["file:///etc/passwd", "file:///proc/self/environ", "/../../etc/passwd"] {
        let url = stage.server.route("/file.m3u8", playlist(segment, ""));
        let job = stage.extract(&url, json!({"format": "copy", "reuse": false})).await;
        assert_eq!(job.state, State::Failed, "{segment}: {:?}", job.result);
        assert!(!format!("{:?}", job.error).contains("root:"), "{:?}", job.error);
    }
}

#[tokio::test]
async fn a_picture_from_the_inside_is_left_out() {
    let stage = Stage::start().await;
    let inside = Inside::with(&stage);
    let video = stage.server.route("/a.mp4", Route::file(&stage.recording("b.mp4")));
    let page = page_with_og_video("Séance", &video, &inside.server.url("/cover.jpg"));
    let url = stage.server.route("/page", Route::html(page));
    result(stage.extract(&url, json!({"format": "copy"})).await);
    inside.is_untouched();
}

#[tokio::test]
async fn a_live_stream_does_not_lead_inside() {
    let stage = Stage::start().await;
    let inside = Inside::with(&stage);
    let secret = inside.server.url("/a.mp4");
    let text = format!("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:1,\n{secret}\n");
    let door = stage.server.route("/live.m3u8", Route::new(text.into_bytes(), "application/vnd.apple.mpegurl"));
    let recording = stage.recording("b.mp4");
    let source = LiveSource::cut(&stage.folder.path().join("cut"), &recording, Segments::Ts, false);
    let hidden = LiveStream::start(&inside.server, &source, "/live");
    for url in [door, hidden.url()] {
        let job = end(&stage.submit_kind("audio.live", json!({"url": url, "patience_ms": 1_000})).await).await;
        assert_eq!((job.state, code(&job)), (State::Failed, "address_forbidden"), "{url}: {:?}", job.error);
    }
    inside.is_untouched();
}

#[tokio::test]
async fn what_is_no_web_address_is_refused_at_submission() {
    let stage = Stage::start().await;
    for url in [
        "ytsearch:assemblée",
        "ftp://example.org/a.mp4",
        "file:///etc/passwd",
        "rtmp://example.org/live",
        "data:video/mp4;base64,AAAA",
        "http://user:secret@example.org/a.mp4",
        "http://user@example.org/a.mp4",
        "http://",
        "http://exa mple.org/",
        "http://example.org/\r\nHost: 127.0.0.1",
        "--exec=id",
        "",
    ] {
        for (kind, payload) in [("audio.extract", json!({"source": {"url": url}})), ("audio.live", json!({"url": url}))]
        {
            let answer = stage.platform.submit(kind, payload).await;
            let (status, body) = (answer.status(), answer.json::<Value>().await.unwrap());
            assert_eq!((status.as_u16(), body["code"].as_str()), (422, Some("invalid_payload")), "{url}: {body}");
        }
    }
}
