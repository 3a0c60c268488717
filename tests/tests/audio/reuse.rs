//! What was fetched and made is used again.

use fourmi_kinds::AudioExtracted;
use fourmi_model::{BlobId, State};
use fourmi_tests::{
    eventually_async,
    media_server::{Answer, Route},
};
use serde_json::json;

use crate::stage::{Stage, end, plain, plain_and_new, result};

fn ids(found: &AudioExtracted) -> Vec<(String, BlobId)> {
    let mut ids: Vec<_> = found.files.iter().map(|file| (file.role.clone(), file.file)).collect();
    ids.sort();
    ids
}

#[tokio::test]
async fn an_equal_request_gives_the_same_files_without_the_network() {
    let mut stage = Stage::start().await;
    let recording = stage.recording("a.mp4");
    let bytes = std::fs::metadata(&recording).unwrap().len();
    let url = stage.server.route("/a.mp4", Route::file(&recording));
    let first = stage.extracted(&url, json!({"format": "mp3"})).await;
    assert!(!first.reused);
    let requests = stage.server.all_requests().len();

    let again = stage.extracted(&url, json!({"format": "mp3"})).await;
    assert!(again.reused);
    assert_eq!(ids(&again), ids(&first));
    // Another worker knows it, too, and so does who writes the same request otherwise.
    stage.kill_worker();
    stage.platform.add_worker();
    let same = json!({"format": "mp3", "reuse": true, "chapters": {"embed": true}, "thumbnails": {"jpg": {}}});
    let again = stage.extracted(&url, same).await;
    assert!(again.reused);
    assert_eq!(ids(&again), ids(&first));
    // Something else of the same recording is made of the same download.
    let other = stage.extracted(&url, json!({"format": "flac"})).await;
    assert!(!other.reused);
    assert_ne!(other.file("audio").unwrap().file, first.file("audio").unwrap().file);
    assert_eq!(stage.server.all_requests().len(), requests);
    assert_eq!(stage.server.bytes_sent("/a.mp4"), bytes);

    // Equal content of another address is not made again.
    let mirror = stage.server.route("/mirror/a.mp4", Route::file(&recording));
    let mirrored = stage.extracted(&mirror, json!({"format": "mp3"})).await;
    assert_eq!(mirrored.file("audio").unwrap().file, first.file("audio").unwrap().file);
    assert_eq!(mirrored.source.unwrap().url, mirror);

    let anew = stage.extracted(&url, json!({"format": "mp3", "reuse": false})).await;
    assert!(!anew.reused);
    assert_eq!(stage.server.bytes_sent("/a.mp4"), 2 * bytes);
}

#[tokio::test]
async fn two_equal_requests_at_once_make_one_download() {
    let stage = Stage::start().await;
    let recording = stage.recording("a.mp4");
    let bytes = std::fs::metadata(&recording).unwrap().len();
    let url = stage.server.route("/a.mp4", Route::file(&recording));
    stage.server.hold("/a.mp4", bytes / 2);
    let first = stage.submit(&url, plain()).await;
    stage.server.wait_until_held("/a.mp4").await;
    let second = stage.submit(&url, plain()).await;
    eventually_async("the second runs", async || {
        let job = stage.platform.client.job(second.id()).await.unwrap();
        (job.state == State::Running).then_some(())
    })
    .await;
    stage.server.release("/a.mp4");
    let (first, second) = tokio::join!(end(&first), end(&second));
    let (first, second) = (result(first), result(second));
    assert_eq!(ids(&first), ids(&second));
    assert_eq!(stage.server.bytes_sent("/a.mp4"), bytes);
}

#[tokio::test]
async fn the_second_of_two_goes_on_by_itself_when_the_first_is_cancelled() {
    let stage = Stage::start().await;
    let recording = stage.recording("a.mp4");
    let url = stage.server.route("/a.mp4", Route::file(&recording));
    stage.server.hold("/a.mp4", 10_000);
    let first = stage.submit(&url, plain()).await;
    stage.server.wait_until_held("/a.mp4").await;
    let second = stage.submit(&url, plain()).await;
    eventually_async("the second runs", async || {
        let job = stage.platform.client.job(second.id()).await.unwrap();
        (job.state == State::Running).then_some(())
    })
    .await;
    stage.platform.client.cancel(first.id()).await.unwrap();
    assert_eq!(end(&first).await.state, State::Cancelled);
    stage.server.release("/a.mp4");
    result(end(&second).await);
}

#[tokio::test]
async fn only_what_is_still_there_is_used_again() {
    let stage = Stage::start().await;
    let recording = stage.recording("a.mp4");
    let url = stage.server.route("/a.mp4", Route::file(&recording).first(1, Answer::status(404)));
    // A failure is not remembered.
    assert_eq!(stage.extract(&url, plain()).await.state, State::Failed);
    let first = stage.extracted(&url, plain()).await;
    let audio = first.file("audio").unwrap().file;
    stage.platform.client.delete_file(audio).await.unwrap();
    let again = stage.extracted(&url, plain()).await;
    assert!(!again.reused);
    assert!(!stage.content(again.file("audio").unwrap()).await.is_empty());

    // What was fetched anew counts from then on.
    let other = fourmi_tests::Recording { seconds: 3, ..Default::default() }.make(stage.folder.path(), "b.mp4");
    stage.server.route("/a.mp4", Route::file(&other));
    let anew = stage.extracted(&url, plain_and_new()).await;
    assert!(anew.duration_ms.abs_diff(3_000) < 150);
    let newest = stage.extracted(&url, plain()).await;
    assert!(newest.duration_ms.abs_diff(3_000) < 150, "an older download came back");
}
