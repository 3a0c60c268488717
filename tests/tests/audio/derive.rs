//! Something else from what is stored already.

use fourmi_kinds::AudioExtracted;
use fourmi_model::{BlobId, State};
use fourmi_tests::media_server::Route;
use serde_json::{Value, json};

use crate::stage::{Stage, end, result};

#[tokio::test]
async fn another_format_a_waveform_and_a_stream_need_no_source() {
    let stage = Stage::start().await;
    let url = stage.server.route("/a.mp4", Route::file(&stage.recording("a.mp4")));
    let first = stage.extracted(&url, json!({"waveform": "off"})).await;
    let requests = stage.server.all_requests().len();
    let audio = first.file("audio").unwrap();
    let derive = async |options: Value| {
        let mut payload = json!({"file": audio.file});
        payload.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        result(end(&stage.submit_kind("audio.derive", payload).await).await)
    };
    let roles = |found: &AudioExtracted| {
        let mut roles: Vec<String> = found.files.iter().map(|file| file.role.clone()).collect();
        roles.sort();
        roles.dedup();
        roles
    };

    let opus = derive(json!({"format": "opus"})).await;
    assert_eq!((opus.codec.name.as_str(), opus.codec.copied), ("opus", false));
    assert!(opus.duration_ms.abs_diff(first.duration_ms) < 100);
    assert_eq!(opus.file("audio").unwrap().media_type, "audio/ogg");
    let chapters = |found: &AudioExtracted| -> Vec<(u64, String)> {
        found.chapters.iter().map(|it| (it.start_ms, it.title.clone())).collect()
    };
    assert_eq!((&opus.tags["title"], chapters(&opus)), (&first.tags["title"], chapters(&first)));

    let waveform = derive(json!({"waveform": {"binary": {"per_second": 50, "bits": 16}}})).await;
    assert_eq!(roles(&waveform), ["waveform"]);
    let points = stage.content(waveform.file("waveform").unwrap()).await;
    let field = |n: usize| i32::from_le_bytes(points[4 * n..4 * n + 4].try_into().unwrap());
    // Version, flags, sample rate, samples a pixel, length, channels.
    assert_eq!((field(0), field(1) & 1), (2, 0));
    assert!(field(4).abs_diff(300) <= 5, "{} points for six seconds", field(4));
    let pairs = usize::try_from(field(4) * field(5)).unwrap();
    assert_eq!(points.len(), 24 + pairs * 2 * 2);

    let stream = derive(json!({"hls": {"segment_seconds": 2, "bitrates_kbps": [64, 128]}})).await;
    assert_eq!(roles(&stream), ["hls", "hls_media", "hls_variant"]);
    let master = String::from_utf8(stage.content(stream.file("hls").unwrap()).await).unwrap();
    assert_eq!(master.matches("#EXT-X-STREAM-INF").count(), 2, "{master}");

    assert_eq!(stage.server.all_requests().len(), requests);
}

#[tokio::test]
async fn what_cannot_be_derived_says_why() {
    let stage = Stage::start().await;
    let picture = stage.platform.upload_bytes("x.txt", "x").await;
    let refused = async |payload: Value| {
        let answer = stage.platform.submit("audio.derive", payload).await;
        let status = answer.status().as_u16();
        (status, answer.json::<Value>().await.unwrap()["code"].as_str().unwrap().to_owned())
    };
    assert_eq!(refused(json!({"file": picture})).await, (422, "invalid_payload".to_owned()));
    assert_eq!(refused(json!({"file": picture, "waveform": "off"})).await, (422, "invalid_payload".to_owned()));
    let unknown = json!({"file": BlobId::random(), "format": "mp3"});
    assert_eq!(refused(unknown).await, (422, "unknown_file".to_owned()));
    let job = end(&stage.submit_kind("audio.derive", json!({"file": picture, "format": "mp3"})).await).await;
    assert_eq!((job.state, crate::stage::code(&job), job.run), (State::Failed, "not_media", 1));
}
