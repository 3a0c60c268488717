//! Files that want to be read as something else.

use crate::studio::{STEREO, Studio, probe};

#[test]
fn files_that_name_other_files_are_refused_under_any_name() {
    let studio = Studio::new();
    studio.record("secret.wav", STEREO);
    studio.record("segment.ts", &format!("{STEREO} -c:a aac"));
    let secret = studio.path("secret.wav");
    let hls = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:10\n#EXTINF:10.0,\nsegment.ts\n#EXT-X-ENDLIST\n";
    let passwd = hls.replace("segment.ts", "file:///etc/passwd");
    let concat = format!("ffconcat version 1.0\nfile '{}'\n", secret.display());
    let dash = r#"<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"
        mediaPresentationDuration="PT10S" profiles="urn:mpeg:dash:profile:isoff-main:2011"><Period><AdaptationSet
        mimeType="audio/mp4"><Representation id="1" bandwidth="1"><BaseURL>secret.wav</BaseURL></Representation>
        </AdaptationSet></Period></MPD>"#;
    let session = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n";
    let redirect = "[Reference]\nRef1=http://127.0.0.1/x.asf\n";
    for (kind, content) in
        [("hls", hls), ("passwd", &passwd), ("concat", &concat), ("dash", dash), ("sdp", session), ("asx", redirect)]
    {
        for ending in ["", ".mp4", ".mp3", ".m3u8", ".ffconcat", ".mpd", ".sdp", ".ts", ".wav"] {
            let file = studio.file(&format!("{kind}{ending}"), content.as_bytes());
            assert_eq!(probe(&file).unwrap_err().code, "not_media", "{kind}{ending}");
            assert_eq!(studio.refusal(&file, "mp3"), "not_media", "{kind}{ending}");
        }
    }
}

#[test]
fn a_name_is_only_a_name() {
    let studio = Studio::new();
    let bytes = std::fs::read(studio.record("song.wav", STEREO)).unwrap();
    for name in ["100%d.mp3", "concat:a|b", "http:", "a b'\"?#.m3u8", "-i", "pipe:0", "ünïcödé.png"] {
        let made = studio.extract(&studio.file(name, &bytes), "wav").unwrap();
        assert_eq!(made.duration_ms, 10_000, "{name}");
    }
}

/// A small file can claim years of sound: what it says is not believed, and not waited for.
#[test]
fn an_endless_claim_is_not_waited_for() {
    let studio = Studio::new();
    let song = std::fs::read(studio.record("song.wav", STEREO)).unwrap();
    let claiming = |length: u32| {
        let mut bytes = song.clone();
        let data = bytes.windows(4).position(|window| window == b"data").unwrap();
        for at in [4, data + 4] {
            bytes[at..at + 4].copy_from_slice(&length.to_le_bytes());
        }
        studio.file("song.wav", &bytes)
    };
    assert_eq!(studio.refusal(&claiming(0x7000_0000), "flac"), "truncated_media");
    // What a recorder writes that does not know how long it will run.
    assert_eq!(studio.extract(&claiming(0xFFFF_FFFF), "flac").unwrap().duration_ms, 10_000);
}

/// LAME aborts the process on samples that are not numbers.
#[test]
fn samples_that_are_no_numbers_are_silence() {
    let studio = Studio::new();
    let song = studio.record("song.wav", &format!("{STEREO} -c:a pcm_f32le"));
    let mut bytes = std::fs::read(song).unwrap();
    let start = bytes.len() / 2;
    for (sample, number) in bytes[start..start + 40_000].chunks_exact_mut(4).zip(0..) {
        let value = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, -1e30, 1e-45][number % 6];
        sample.copy_from_slice(&value.to_le_bytes());
    }
    let song = studio.file("song.wav", &bytes);
    for format in ["mp3", "m4a", "opus", "flac", "wav"] {
        assert!(studio.extract(&song, format).unwrap().duration_ms.abs_diff(10_000) <= 80, "{format}");
    }
}
