//! Parts of recordings, gaps in them, and recordings glued together.

use fourmi_kinds::Chapter;
use serde_json::json;

use crate::studio::{MONO, PICTURE, STEREO, Studio, notes, packets, samples, seconds};

#[test]
fn a_part_is_exact_to_the_sample_when_it_is_encoded() {
    let studio = Studio::new();
    for (name, codecs) in [
        ("pcm.wav", "-c:a pcm_s16le"),
        // Without noise that decoders make up.
        ("aac.mp4", "-c:a aac -aac_pns 0"),
        ("mp3.mp3", "-c:a libmp3lame"),
        ("flac.flac", "-c:a flac"),
        ("opus.opus", "-c:a libopus"),
    ] {
        let recording = studio.record(name, &format!("{STEREO} {codecs}"));
        let whole = samples(&recording, "");
        let payload = json!({"format": "wav", "trim": {"start_ms": 3_250, "end_ms": 7_125}});
        let made = studio.extract_with(&recording, payload).unwrap();
        assert_eq!(made.duration_ms, 3_875, "{name}");
        let (part, at) = (samples(&made.path, ""), 3_250 * 48 * 2);
        // Decoders that warmed up elsewhere round the odd sample otherwise.
        let differs = part.iter().zip(&whole[at..]).filter(|(one, other)| one.abs_diff(**other) > 2).count();
        assert!(part.len() == 3_875 * 48 * 2 && differs == 0, "{name}: {differs} of {} samples differ", part.len());
    }
}

#[test]
fn a_part_is_exact_to_the_packet_when_it_is_copied() {
    let studio = Studio::new();
    let recording = studio.record("film.mp4", &format!("{PICTURE} {STEREO} -c:v mpeg4 -c:a aac"));
    let made = studio.extract_with(&recording, json!({"trim": {"start_ms": 3_250, "end_ms": 7_125}})).unwrap();
    assert!(made.codec.copied);
    assert!(made.duration_ms.abs_diff(3_875) <= 43, "{}", made.duration_ms);
    let (whole, part) = (packets(&recording), packets(&made.path));
    assert!(whole.windows(part.len()).any(|window| window == part), "the packets are those of the source, in order");
}

#[test]
fn chapters_follow_the_part() {
    let studio = Studio::new();
    let film = studio.film("film.mkv", "-c:a flac");
    let chapter = |start_ms, end_ms, title: &str| Chapter { start_ms, end_ms, title: title.to_owned() };
    for format in ["m4a", "mp3", "opus", "flac"] {
        let payload = json!({"format": format, "trim": {"start_ms": 3_000, "end_ms": 8_000}});
        let mut made = studio.extract_with(&film, payload).unwrap();
        // Containers that know no ends let the last chapter end with the sound.
        made.chapters[1].end_ms = made.chapters[1].end_ms.min(5_000);
        assert_eq!(made.chapters, [chapter(0, 4_000, "Débat"), chapter(4_000, 5_000, "Vote")], "{format}");
    }
}

#[test]
fn a_part_past_the_end_is_refused_and_one_that_reaches_past_it_is_clipped() {
    let studio = Studio::new();
    // One container that says its length, and one that does not.
    for recording in [studio.record("a.wav", MONO), studio.record("a.aac", &format!("{MONO} -c:a aac"))] {
        for format in ["mp3", "copy"] {
            let trim = |trim| studio.extract_with(&recording, json!({"format": format, "trim": trim}));
            assert_eq!(trim(json!({"start_ms": 60_000})).unwrap_err().code, "trim_out_of_range");
            let made = trim(json!({"start_ms": 8_000, "end_ms": 60_000})).unwrap();
            assert!(made.duration_ms.abs_diff(2_000) < 120, "{format}: {}", made.duration_ms);
            assert_eq!(notes(&made).contains(&"trim_end_clipped"), recording.extension().unwrap() == "wav");
        }
    }
}

#[test]
fn a_late_start_and_a_gap_are_silence() {
    let studio = Studio::new();
    let late = studio.record("late.mkv", &format!("{PICTURE} -itsoffset 2 {STEREO} -c:v mpeg4 -c:a flac"));
    let made = studio.extract(&late, "flac").unwrap();
    assert!(!made.codec.copied, "a FLAC cannot start late");
    let sound = samples(&made.path, "");
    assert!((made.duration_ms).abs_diff(12_000) <= 20, "{}", made.duration_ms);
    assert!(sound[..2 * 48_000 * 2 - 200].iter().all(|&sample| sample == 0));
    assert!(sound[2 * 48_000 * 2..][..2_000].iter().any(|&sample| sample != 0));

    let copied = studio.extract(&late, "copy").unwrap();
    assert!(copied.codec.copied && copied.duration_ms.abs_diff(10_000) <= 100, "{}", copied.duration_ms);

    let gap = studio.record("gap.mkv", &format!("{STEREO} -af aselect='not(between(t,3,5))' -c:a flac"));
    let made = studio.extract(&gap, "wav").unwrap();
    let sound = samples(&made.path, "");
    assert!((made.duration_ms).abs_diff(10_000) <= 20, "{}", made.duration_ms);
    assert!(sound[7 * 48_000..9 * 48_000].iter().all(|&sample| sample == 0));
}

#[test]
fn recordings_that_were_glued_together_are_played_to_the_end() {
    let studio = Studio::new();
    let one = studio.record("one.mp3", &format!("{STEREO} -c:a libmp3lame -ar 44100"));
    let two = studio.record("two.mp3", &format!("{MONO} -c:a libmp3lame -ar 22050"));
    let both = studio.file("both.mp3", &[std::fs::read(one).unwrap(), std::fs::read(two).unwrap()].concat());
    for format in ["m4a", "opus", "flac", "wav"] {
        let made = studio.extract(&both, format).unwrap();
        assert!((seconds(&made.path) - 20.0).abs() < 0.2, "{format}: {}", seconds(&made.path));
        assert_eq!((made.codec.channels, made.codec.copied), (2, false));
    }
}

#[test]
fn a_broadcast_whose_clock_starts_anew_is_joined() {
    let studio = Studio::new();
    let part = |name, offset| {
        studio
            .record(name, &format!("{PICTURE} {STEREO} -c:v mpeg2video -c:a mp2 -output_ts_offset {offset} -f mpegts"))
    };
    let (one, two) = (part("one.ts", 40_000), part("two.ts", 0));
    let both = studio.file("both.ts", &[std::fs::read(one).unwrap(), std::fs::read(two).unwrap()].concat());
    for format in ["flac", "copy"] {
        let made = studio.extract(&both, format).unwrap();
        assert!(made.duration_ms.abs_diff(20_000) < 300, "{format}: {}", made.duration_ms);
        assert!(notes(&made).contains(&"time_stamps_repaired"), "{format}: {:?}", made.notes);
    }
}

#[test]
fn a_part_may_be_named_by_its_chapters() {
    let studio = Studio::new();
    let film = studio.film("film.mkv", "-c:a flac");
    let trim = |chapters| studio.extract_with(&film, json!({"format": "flac", "trim": {"chapters": chapters}}));
    for (range, length, titles) in [
        (json!({"first": 2}), 4_500, vec!["Débat"]),
        (json!({"first": 1, "last": 2}), 7_000, vec!["Opening", "Débat"]),
        (json!({"first": 2, "last": 3}), 7_500, vec!["Débat", "Vote"]),
    ] {
        let made = trim(range).unwrap();
        assert_eq!(made.duration_ms, length);
        assert_eq!(made.chapters.iter().map(|chapter| chapter.title.as_str()).collect::<Vec<_>>(), titles);
        assert_eq!(notes(&made), [""; 0]);
    }
    for range in [json!({"first": 4}), json!({"first": 3, "last": 4})] {
        assert_eq!(trim(range).unwrap_err().code, "trim_out_of_range");
    }
}

#[test]
fn a_recording_that_is_too_long_is_refused() {
    let studio = Studio::new();
    // One container that says its length, and one that does not.
    for recording in [studio.record("a.wav", MONO), studio.record("a.aac", &format!("{MONO} -c:a aac"))] {
        for format in ["mp3", "copy"] {
            let with = |longest| studio.extract_with(&recording, json!({"format": format, "max_duration_ms": longest}));
            assert!(with(10_000).is_ok(), "{format}");
            let failure = with(9_000).unwrap_err();
            assert_eq!(failure.code, "duration_exceeded", "{format}");
            assert!(failure.message.contains("0:00:09"), "{}", failure.message);
        }
    }
}
