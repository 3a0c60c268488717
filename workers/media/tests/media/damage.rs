//! Recordings that are not whole, and files that are no recordings.

use std::path::Path;

use fourmi_model::{ErrorClass, NextStep};

use crate::studio::{MONO, PICTURE, STEREO, Studio, notes, probe, seconds};

fn halved(studio: &Studio, recording: &Path) -> std::path::PathBuf {
    let bytes = std::fs::read(recording).unwrap();
    studio.file("half", &bytes[..bytes.len() / 2])
}

#[test]
fn files_that_are_no_recordings_are_told_apart() {
    let studio = Studio::new();
    let noise: Vec<u8> = random(7).take(200_000).map(|number| (number >> 32) as u8).collect();
    let page = b"<!DOCTYPE html><html><head><title>Not found</title></head><body>404</body></html>";
    for (name, content, code) in [
        ("empty.mp4", &b""[..], "empty_file"),
        ("noise.mp4", &noise, "not_media"),
        ("noise", &noise, "not_media"),
        ("byte", b"x", "not_media"),
        ("zeros.mp3", &[0; 100_000], "not_media"),
        ("page.mp4", page, "not_media"),
        ("text.txt", b"Dear diary, today I recorded nothing.\n", "not_media"),
        (
            "subtitles.srt",
            b"1\n00:00:01,000 --> 00:00:02,000\nHello\n\n2\n00:00:03,000 --> 00:00:04,000\nyou\n",
            "not_media",
        ),
    ] {
        let file = studio.file(name, content);
        assert_eq!(studio.refusal(&file, "mp3"), code, "{name}");
        assert_eq!(probe(&file).unwrap_err().code, code, "{name}");
    }
    let picture = studio.record("picture.png", "-f lavfi -i color=red:size=64x64 -frames:v 1");
    let failure = studio.extract(&picture, "mp3").unwrap_err();
    assert_eq!((failure.code.as_str(), failure.class), ("not_media", ErrorClass::Unsupported));
    assert!(failure.message.contains("picture"), "{}", failure.message);
    let failure = probe(&studio.path("page.mp4")).unwrap_err();
    assert!(failure.message.contains("web page"), "{}", failure.message);

    assert_eq!(studio.refusal(&studio.path("missing.mp4"), "mp3"), "source_gone");
    assert_eq!(studio.refusal(studio.output(), "mp3"), "not_media");
    assert_eq!(probe(Path::new("/dev/null")).unwrap_err().code, "not_media");
}

#[test]
fn a_recording_without_sound_says_what_it_holds() {
    let studio = Studio::new();
    let silent = studio.record("silent.mp4", &format!("{PICTURE} -c:v mpeg4"));
    let failure = studio.extract(&silent, "mp3").unwrap_err();
    assert_eq!((failure.code.as_str(), &failure.next), ("no_audio_stream", &NextStep::GiveUp));
    assert!(failure.message.contains("video (mpeg4)"), "{}", failure.message);
    assert_eq!(probe(&silent).unwrap().streams.len(), 1);
}

#[test]
fn zero_seconds_are_no_recording() {
    let studio = Studio::new();
    let header = b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x44\xAC\0\0\x88\x58\x01\0\x02\0\x10\0data\0\0\0\0";
    let empty = studio.file("empty.wav", header);
    for format in ["mp3", "flac", "wav", "copy"] {
        assert_eq!(studio.refusal(&empty, format), "zero_duration", "{format}");
    }
}

#[test]
fn what_ends_before_its_promised_end_is_refused() {
    let studio = Studio::new();
    for (name, codecs) in [
        ("film.mp4", "-c:a aac -movflags +faststart"),
        ("film.mkv", "-c:a aac"),
        ("film.webm", "-c:v libvpx -deadline realtime -c:a libopus"),
        ("film.avi", "-c:a libmp3lame"),
        ("late_index.mp4", "-c:a aac"),
    ] {
        let film = studio.record(name, &format!("{PICTURE} {STEREO} -t 6 -c:v mpeg4 {codecs}"));
        let half = halved(&studio, &film);
        for format in ["mp3", "copy"] {
            let failure = studio.extract(&half, format).unwrap_err();
            assert_eq!((failure.code.as_str(), failure.class), ("truncated_media", ErrorClass::CorruptInput), "{name}");
        }
    }
    for (name, codec) in [
        ("song.mp3", "libmp3lame"),
        ("song.flac", "flac"),
        ("song.wav", "pcm_s16le"),
        ("song.m4a", "aac -movflags +faststart"),
    ] {
        let song = studio.record(name, &format!("{MONO} -c:a {codec}"));
        let half = halved(&studio, &song);
        assert_eq!(studio.refusal(&half, "opus"), "truncated_media", "{name}");
        // The part that is there may be had.
        let payload = serde_json::json!({"format": "opus", "trim": {"start_ms": 1_000, "end_ms": 3_000}});
        let made = studio.extract_with(&half, payload).unwrap();
        assert!(made.duration_ms.abs_diff(2_000) < 50, "{name}: {}", made.duration_ms);
    }
}

#[test]
fn what_promises_nothing_is_taken_as_it_is() {
    let studio = Studio::new();
    for (name, codecs) in [
        ("a.ts", "-c:a aac"),
        ("a.ogg", "-c:a libvorbis"),
        ("a.aac", "-c:a aac"),
        ("a.mp3", "-c:a libmp3lame -write_xing 0"),
    ] {
        let recording = studio.record(name, &format!("{STEREO} {codecs}"));
        let made = studio.extract(&halved(&studio, &recording), "flac").unwrap();
        assert!(made.duration_ms.abs_diff(5_000) < 1_200, "{name}: {}", made.duration_ms);
    }
}

#[test]
fn a_film_longer_than_its_sound_is_whole() {
    let studio = Studio::new();
    for name in ["film.mp4", "film.mkv", "film.ts", "film.avi"] {
        let sound = "-f lavfi -i sine=duration=4";
        let film = studio.record(name, &format!("{PICTURE} {sound} -c:v mpeg4 -c:a aac"));
        let made = studio.extract(&film, "mp3").unwrap();
        assert!(made.duration_ms.abs_diff(4_000) < 100, "{name}: {}", made.duration_ms);
    }
}

#[test]
fn a_few_bad_packets_are_left_out_and_told() {
    let studio = Studio::new();
    let song = studio.record("song.m4a", &format!("{STEREO} -c:a aac -b:a 128k -movflags +faststart"));
    let mut bytes = std::fs::read(&song).unwrap();
    let at = bytes.len() / 2;
    for (byte, number) in bytes[at..at + 2_000].iter_mut().zip(random(3)) {
        *byte = (number >> 40) as u8;
    }
    let song = studio.file("song.m4a", &bytes);
    let made = studio.extract(&song, "mp3").unwrap();
    assert_eq!(notes(&made), ["damaged_packets"]);
    assert!((seconds(&made.path) - 10.0).abs() <= 0.15, "{}", seconds(&made.path));
}

#[test]
fn what_is_damaged_beyond_use_is_refused() {
    let studio = Studio::new();
    let song = studio.record("song.m4a", &format!("{STEREO} -c:a aac -movflags +faststart"));
    let mut bytes = std::fs::read(&song).unwrap();
    let at = bytes.windows(4).position(|window| window == b"mdat").unwrap() + 4;
    for (byte, number) in bytes[at..].iter_mut().zip(random(5)) {
        *byte = (number >> 40) as u8;
    }
    let song = studio.file("song.m4a", &bytes);
    let failure = studio.extract(&song, "mp3").unwrap_err();
    assert_eq!((failure.code.as_str(), failure.class), ("corrupt_media", ErrorClass::CorruptInput), "{failure}");
    assert!(failure.cause.unwrap().contains("aac"), "what libav logged");
}

#[test]
fn encrypted_sound_is_refused() {
    let studio = Studio::new();
    let key = "-encryption_scheme cenc-aes-ctr -encryption_key 0123456789abcdef0123456789abcdef \
        -encryption_kid 0123456789abcdef0123456789abcdef";
    let song = studio.record("song.mp4", &format!("{STEREO} -t 1 -c:a aac {key}"));
    for format in ["mp3", "copy"] {
        assert_eq!(studio.refusal(&song, format), "drm");
    }
}

/// Any bit may be wrong: the answer is a file or one of the codes, never a crash, and nothing is left behind.
#[test]
fn flipped_bits_end_in_a_file_or_in_a_code() {
    const CODES: &[&str] = &[
        "not_media",
        "no_audio_stream",
        "codec_unsupported",
        "truncated_media",
        "corrupt_media",
        "zero_duration",
        "drm",
        "duration_exceeded",
        "ffmpeg_failed",
    ];
    let studio = Studio::new();
    for (name, codecs) in [
        ("a.mp4", "-c:v mpeg4 -c:a aac -movflags +faststart"),
        ("a.mkv", "-c:v mpeg4 -c:a libvorbis"),
        ("a.ts", "-c:v mpeg4 -c:a mp2"),
        ("a.mp3", "-vn -c:a libmp3lame"),
        ("a.ogg", "-vn -c:a libopus"),
        ("a.flac", "-vn -c:a flac"),
        ("a.wav", "-vn -c:a adpcm_ms"),
    ] {
        let whole = std::fs::read(studio.record(name, &format!("{PICTURE} {STEREO} -t 2 {codecs}"))).unwrap();
        for seed in 1..=8 {
            let mut bytes = whole.clone();
            // Headers are where damage does most.
            let reach = if seed % 2 == 0 { bytes.len() } else { bytes.len().min(2_000) };
            for number in random(seed).take(24) {
                bytes[(number >> 20) as usize % reach] ^= 1 << (number & 7);
            }
            let broken = studio.file(name, &bytes);
            let format = if seed % 3 == 0 { "copy" } else { "flac" };
            match studio.extract(&broken, format) {
                Ok(made) => assert!(made.duration_ms <= 48 * 3_600_000, "{name} {seed}: {}", made.duration_ms),
                Err(failure) => assert!(CODES.contains(&failure.code.as_str()), "{name} {seed}: {failure}"),
            }
        }
    }
}

/// Numbers that look random and are the same every time (xorshift64).
fn random(seed: u64) -> impl Iterator<Item = u64> {
    std::iter::successors(Some(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1), |&state| {
        let state = state ^ (state << 13);
        let state = state ^ (state >> 7);
        Some(state ^ (state << 17))
    })
}
