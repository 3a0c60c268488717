//! Downloads that break off and go on.

use std::path::Path;

use fourmi_kinds::AudioExtracted;
use fourmi_tests::{
    Recording,
    media_server::{Answer, Route},
};

use crate::stage::{Stage, plain, plain_and_new, result};

/// What comes of the same file when it is uploaded: the truth for all that is fetched.
async fn uploaded(stage: &Stage, path: &Path) -> (AudioExtracted, String) {
    let file = stage.platform.client.upload(path).send().await.unwrap();
    (result(stage.platform.run("audio.extract", file.id, plain()).await), file.sha256)
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().len()
}

#[tokio::test]
async fn a_download_that_is_cut_goes_on_where_it_was() {
    let stage = Stage::hasty(&[]).await;
    let recording = stage.recording("a.mp4");
    let (truth, sha256) = uploaded(&stage, &recording).await;
    let bytes = length(&recording);
    let cases = [
        ("once", Route::file(&recording).first(1, Answer::CutAfter(bytes / 2))),
        ("often", Route::file(&recording).first(4, Answer::CutAfter(bytes / 6))),
        ("in its first bytes", Route::file(&recording).first(1, Answer::CutAfter(1_000))),
        ("by silence", Route::file(&recording).first(1, Answer::StallAfter(bytes / 2))),
    ];
    for (case, route) in cases {
        let path = format!("/{}.mp4", case.replace(' ', "-"));
        let url = stage.server.route(&path, route.etag("v1"));
        let found = stage.extracted(&url, plain_and_new()).await;
        let source = found.source.as_ref().unwrap();
        assert_eq!((source.sha256.as_str(), source.bytes), (sha256.as_str(), bytes), "{case}");
        assert_eq!(found.file("audio").unwrap().sha256, truth.file("audio").unwrap().sha256, "{case}");
        let sent = stage.server.bytes_sent(&path);
        assert!((bytes..=bytes + bytes / 10).contains(&sent), "{case}: {sent} of {bytes} bytes were sent");
        let requests = stage.server.requests(&path);
        let second = requests.iter().find(|request| request.offset().is_some_and(|from| from > 0)).unwrap();
        assert_eq!(second.header("if-range"), Some("\"v1\""), "{case}");
    }
    stage.platform.nothing_is_left().await;
}

#[tokio::test]
async fn without_ranges_or_with_other_content_it_starts_again() {
    let stage = Stage::start().await;
    let recording = stage.recording("a.mp4");
    let (_, sha256) = uploaded(&stage, &recording).await;
    let bytes = length(&recording);
    let cut = Answer::CutAfter(bytes / 2);
    let bare = stage.server.route("/bare.mp4", Route::file(&recording).without_ranges().first(1, cut.clone()));
    assert_eq!(stage.extracted(&bare, plain_and_new()).await.source.unwrap().sha256, sha256);

    // The first half is of something else: it must not be joined to the second.
    let other = Recording { seconds: 12, ..Recording::default() }.make(stage.folder.path(), "b.mp4");
    stage.server.hold("/changed.mp4", bytes / 2);
    let url = stage.server.route("/changed.mp4", Route::file(&other).etag("old"));
    let handle = stage.submit(&url, plain_and_new()).await;
    stage.server.wait_until_held("/changed.mp4").await;
    stage.server.stop_listening().await;
    stage.server.route("/changed.mp4", Route::file(&recording).etag("new"));
    stage.server.release("/changed.mp4");
    stage.server.listen_again();
    let found = result(crate::stage::end(&handle).await);
    assert_eq!((found.source.unwrap().sha256, found.duration_ms.abs_diff(6_000) < 150), (sha256, true));
}

#[tokio::test]
async fn a_source_that_goes_away_for_a_while_is_waited_for() {
    let stage = Stage::start().await;
    let recording = stage.recording("a.mp4");
    let bytes = length(&recording);
    let url = stage.server.route("/a.mp4", Route::file(&recording));
    stage.server.hold("/a.mp4", bytes / 2);
    let handle = stage.submit(&url, plain()).await;
    stage.server.wait_until_held("/a.mp4").await;
    stage.server.stop_listening().await;
    stage.server.release("/a.mp4");
    stage.server.wait_for_attempt().await;
    stage.server.listen_again();
    result(crate::stage::end(&handle).await);
    assert!(stage.server.bytes_sent("/a.mp4") <= bytes + bytes / 10);
}
