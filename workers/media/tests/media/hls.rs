//! HTTP Live Streaming, played by the `ffmpeg` program from local files.

use std::{fs, process::Command};

use fourmi_kinds::Hls;
use fourmi_media::audio::{self, Variant};

use crate::studio::{MONO, Notebook, STEREO, Studio, samples, seconds};

fn make(studio: &Studio, sound: &str, hls: &Hls) -> Vec<Variant> {
    let recording = studio.record("recording.flac", sound);
    let notebook = Notebook::default();
    let variants = audio::hls(&recording, hls, studio.output(), &notebook).unwrap();
    let told = notebook.0.into_inner().unwrap();
    assert!(told.iter().all(|progress| progress.stage == "segment") && told.last().unwrap().percent == 100.0);
    let names: Vec<_> = fs::read_dir(studio.output()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), variants.len(), "{names:?}");
    variants
}

#[test]
fn every_variant_plays_to_the_end() {
    let studio = Studio::new();
    for (sound, channels) in [(STEREO, 2), (MONO, 1)] {
        let hls = Hls { segment_seconds: 3, bitrates_kbps: vec![32, 64, 128] };
        let variants = make(&studio, sound, &hls);
        let mut uris = vec![];
        for variant in &variants {
            let name = variant.media.file_name().unwrap().to_str().unwrap();
            let playlist = variant.playlist(name);
            let uri = format!("{}.m3u8", variant.kbps);
            fs::write(studio.output().join(&uri), &playlist).unwrap();
            let played = samples(&studio.output().join(&uri), "");
            let length = played.len() as f64 / f64::from(channels) / if channels == 2 { 48_000.0 } else { 44_100.0 };
            assert!((length - 10.0).abs() < 0.06, "{length}");
            assert!((seconds(&studio.output().join(&uri)) - 10.0).abs() < 0.06);
            // Nothing is lost or played twice where segments meet.
            assert!(played == samples(&variant.media, ""), "{uri}");
            assert_eq!(variant.codecs, "mp4a.40.2");
            let nominal = f64::from(variant.kbps) * 1_000.0;
            assert!((0.8..1.5).contains(&(variant.bandwidth as f64 / nominal)), "{variant:?}");
            assert!(variant.average_bandwidth <= variant.bandwidth);
            uris.push(uri);
        }
        let named: Vec<_> = uris.iter().map(String::as_str).zip(&variants).collect();
        let master = studio.output().join("master.m3u8");
        fs::write(&master, audio::master_playlist(&named)).unwrap();
        let run = Command::new("ffprobe")
            .args(["-v", "error", "-show_entries", "program=program_id", "-of", "csv"])
            .arg(&master)
            .output()
            .unwrap();
        assert_eq!(String::from_utf8(run.stdout).unwrap().lines().filter(|line| !line.is_empty()).count(), 3);
        assert!(run.stderr.is_empty(), "{}", String::from_utf8_lossy(&run.stderr));
        assert!(!samples(&master, "").is_empty());
        fs::remove_file(master).unwrap();
        uris.iter().for_each(|uri| fs::remove_file(studio.output().join(uri)).unwrap());
    }
}

#[test]
fn byte_ranges_are_exact() {
    let studio = Studio::new();
    let variants = make(&studio, STEREO, &Hls { segment_seconds: 2, bitrates_kbps: vec![96] });
    let bytes = fs::read(&variants[0].media).unwrap();
    let playlist = variants[0].playlist("https://example.org/media?a=1");
    assert!(playlist.contains("#EXT-X-TARGETDURATION:3\n") || playlist.contains("#EXT-X-TARGETDURATION:2\n"));
    assert!(playlist.starts_with("#EXTM3U\n") && playlist.ends_with("#EXT-X-ENDLIST\n"));
    let range = |text: &str| -> (usize, usize) {
        let (length, offset) = text.split_once('@').unwrap();
        (length.parse().unwrap(), offset.parse().unwrap())
    };
    let map = playlist.split("BYTERANGE=\"").nth(1).unwrap().split('"').next().unwrap();
    let (header, start) = range(map);
    assert_eq!((start, &bytes[4..8]), (0, &b"ftyp"[..]));
    let mut next = header;
    let mut total = 0.0;
    for line in playlist.lines() {
        if let Some(text) = line.strip_prefix("#EXT-X-BYTERANGE:") {
            let (length, offset) = range(text);
            assert_eq!((offset, &bytes[offset + 4..offset + 8]), (next, &b"moof"[..]));
            next += length;
        }
        if let Some(text) = line.strip_prefix("#EXTINF:") {
            let seconds: f64 = text.trim_end_matches(',').parse().unwrap();
            assert!(seconds < 2.05, "{seconds}");
            total += seconds;
        }
    }
    assert_eq!(next, bytes.len(), "no byte is left over");
    assert!((total - 10.0_f64).abs() < 0.06, "{total}");
}

#[test]
fn what_is_no_recording_is_refused_and_nothing_is_left() {
    let studio = Studio::new();
    let text = studio.file("text", b"nothing to hear");
    let failure = audio::hls(&text, &Hls::default(), studio.output(), &Notebook::default()).unwrap_err();
    assert_eq!(failure.code, "not_media");
    assert_eq!(fs::read_dir(studio.output()).unwrap().count(), 0);
}
