//! Every format is what it says, whatever the source.

use serde_json::json;

use crate::studio::{MONO, PICTURE, STEREO, Studio, ffprobe, notes, packets, probe, samples, seconds};

#[test]
fn every_format_holds_the_sound_the_tags_and_the_chapters() {
    let studio = Studio::new();
    let film = studio.film("film.mp4", "-c:a aac -b:a 128k");
    for (format, codec, extension) in [
        ("m4a", "aac", "m4a"),
        ("mp3", "mp3", "mp3"),
        ("opus", "opus", "opus"),
        ("ogg", "vorbis", "ogg"),
        ("flac", "flac", "flac"),
        ("wav", "pcm_s16le", "wav"),
        ("copy", "aac", "m4a"),
    ] {
        let made = studio.extract(&film, format).unwrap();
        assert_eq!((made.codec.name.as_str(), made.extension.as_str()), (codec, extension), "{format}");
        assert_eq!((made.codec.channels, made.codec.sample_rate), (2, 48_000), "{format}");
        assert_eq!(made.codec.copied, codec == "aac", "{format}");
        assert_eq!(made.path, studio.output().join(format!("audio.{extension}")));
        assert!(made.duration_ms.abs_diff(10_000) <= 50, "{format}: {}", made.duration_ms);

        // Other eyes see the same.
        assert!((seconds(&made.path) - 10.0).abs() <= 0.05, "{format}: {}", seconds(&made.path));
        let seen = ffprobe(&made.path);
        let sound: Vec<_> = seen["streams"].as_array().unwrap().iter().filter(|s| s["codec_type"] == "audio").collect();
        assert_eq!((sound.len(), sound[0]["codec_name"].as_str()), (1, Some(codec)), "{format}");
        let tags = match seen["format"]["tags"].as_object() {
            Some(tags) if tags.keys().any(|name| name.eq_ignore_ascii_case("title")) => tags,
            // Ogg has its tags in the stream.
            _ => sound[0]["tags"].as_object().unwrap(),
        };
        let tag =
            |name: &str| tags.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone());
        for (name, value) in [
            ("title", "Séance du soir"),
            ("artist", "Assemblée"),
            ("album", "Débats"),
            ("date", "2024"),
            ("genre", "Speech"),
            ("comment", "A comment; with = signs"),
        ] {
            assert_eq!(tag(name), Some(json!(value)), "{format}: {name}");
            assert_eq!(made.tags[name], value, "{format}");
        }
        assert!(!made.tags.contains_key("major_brand") && !made.tags.contains_key("encoder"));

        let chapters: Vec<_> =
            made.chapters.iter().map(|c| (c.start_ms, c.end_ms.min(10_000), c.title.as_str())).collect();
        let expected = [(0, 2_500, "Opening"), (2_500, 7_000, "Débat"), (7_000, 10_000, "Vote")];
        let seen_chapters = seen["chapters"].as_array().unwrap();
        if format == "wav" {
            assert!(seen_chapters.is_empty());
            assert_eq!((chapters.as_slice(), notes(&made)), (&expected[..], vec!["chapters_dropped"]));
            continue;
        }
        assert_eq!(chapters, expected, "{format}");
        let titles: Vec<_> = seen_chapters.iter().map(|c| c["tags"]["title"].as_str().unwrap()).collect();
        assert_eq!(titles, ["Opening", "Débat", "Vote"], "{format}");
        assert_eq!(notes(&made), [""; 0], "{format}");
        assert_eq!(probe(&made.path).unwrap().chapters, made.chapters, "{format}");
    }
}

#[test]
fn what_is_lossless_loses_nothing() {
    let studio = Studio::new();
    let film = studio.film("film.mp4", "-c:a aac");
    let sound = samples(&film, "");
    for format in ["flac", "wav"] {
        let made = studio.extract(&film, format).unwrap();
        assert!(samples(&made.path, "") == sound, "{format} differs from what the ffmpeg program decodes");
    }
    let fine = studio.record("fine.wav", &format!("{STEREO} -c:a pcm_s24le"));
    let made = studio.extract(&fine, "flac").unwrap();
    assert_eq!(ffprobe(&made.path)["streams"][0]["bits_per_raw_sample"], "24");
}

#[test]
fn a_codec_that_fits_is_copied_to_the_bit() {
    let studio = Studio::new();
    for (name, codecs, format, extension) in [
        ("aac.mp4", "-c:a aac", "m4a", "m4a"),
        ("aac.mkv", "-c:a aac", "copy", "m4a"),
        ("aac.ts", "-c:a aac", "m4a", "m4a"),
        ("mp3.mkv", "-c:a libmp3lame", "mp3", "mp3"),
        ("mp3.avi", "-c:a libmp3lame", "copy", "mp3"),
        ("opus.mkv", "-c:a libopus", "opus", "opus"),
        ("vorbis.mkv", "-c:a libvorbis", "copy", "ogg"),
        ("flac.mkv", "-c:a flac", "flac", "flac"),
        ("pcm.mov", "-c:a pcm_s16le", "wav", "wav"),
        ("alac.mov", "-c:a alac", "copy", "m4a"),
        ("ac3.mkv", "-c:a ac3", "copy", "mka"),
        ("pcm_be.mov", "-c:a pcm_s16be", "copy", "mka"),
    ] {
        let film = studio.record(name, &format!("{PICTURE} {STEREO} -t 4 -c:v mpeg4 {codecs}"));
        let made = studio.extract(&film, format).unwrap();
        assert!(made.codec.copied, "{name}");
        assert_eq!(made.extension, extension, "{name}");
        assert!((seconds(&made.path) - 4.0).abs() <= 0.05, "{name}: {}", seconds(&made.path));
        let (before, after) = (packets(&film), packets(&made.path));
        if extension == "wav" || name == "aac.ts" {
            // A WAV has no packets of its own, and a broadcast stream has a header in each.
            assert!(samples(&film, "") == samples(&made.path, ""), "{name}");
        } else {
            assert_eq!(before, after, "{name}");
        }
    }
}

#[test]
fn what_differs_from_the_wish_is_encoded() {
    let studio = Studio::new();
    let film = studio.record("film.mp4", &format!("{PICTURE} {STEREO} -c:v mpeg4 -c:a aac"));
    let copied = |payload| studio.extract_with(&film, payload).unwrap().codec;
    assert!(copied(json!({"format": "m4a", "channels": 2, "sample_rate": 48_000})).copied);
    assert!(!copied(json!({"format": "m4a", "bitrate_kbps": 96})).copied);
    let mono = copied(json!({"format": "m4a", "channels": 1}));
    assert_eq!((mono.copied, mono.channels), (false, 1));
    let slow = copied(json!({"format": "m4a", "sample_rate": 16_000}));
    assert_eq!((slow.copied, slow.sample_rate), (false, 16_000));
}

#[test]
fn an_m4a_plays_from_its_first_bytes() {
    let studio = Studio::new();
    let film = studio.film("film.mp4", "-c:a aac");
    for payload in [json!({"format": "m4a"}), json!({"format": "m4a", "bitrate_kbps": 64})] {
        let bytes = std::fs::read(studio.extract_with(&film, payload).unwrap().path).unwrap();
        let at = |name: &[u8]| bytes.windows(4).position(|window| window == name).unwrap();
        assert!(at(b"moov") < at(b"mdat"));
    }
}

#[test]
fn bit_rates_follow_the_channels_and_the_wish() {
    let studio = Studio::new();
    let mono = studio.record("mono.wav", &format!("{MONO} -t 4"));
    let stereo = studio.record("stereo.wav", &format!("{STEREO} -t 4"));
    let rate = |input, payload| studio.extract_with(input, payload).unwrap().codec.bit_rate / 1_000;
    assert!((60..=74).contains(&rate(&mono, json!({"format": "mp3"}))));
    assert!((124..=136).contains(&rate(&stereo, json!({"format": "mp3"}))));
    assert!((188..=200).contains(&rate(&stereo, json!({"format": "mp3", "bitrate_kbps": 192}))));

    let limited = studio.extract_with(&mono, json!({"format": "mp3", "bitrate_kbps": 512})).unwrap();
    assert!((310..=330).contains(&(limited.codec.bit_rate / 1_000)));
    assert_eq!(notes(&limited), ["bitrate_limited"]);
    for format in ["opus", "m4a", "mp3"] {
        for rate in [8_000, 96_000] {
            for kbps in [16, 512] {
                let payload = json!({"format": format, "bitrate_kbps": kbps, "sample_rate": rate, "channels": 1});
                let made = studio.extract_with(&mono, payload).unwrap();
                assert!(made.duration_ms.abs_diff(4_000) <= 200, "{format} at {kbps}: {}", made.duration_ms);
            }
        }
    }
}

#[test]
fn channels_and_sample_rates_become_what_the_format_knows() {
    let studio = Studio::new();
    let surround = studio.record("surround.mkv", &format!("{STEREO} -af aformat=channel_layouts=5.1 -c:a flac"));
    for format in ["m4a", "mp3", "opus", "ogg", "flac", "wav"] {
        let made = studio.extract(&surround, format).unwrap();
        assert_eq!((made.codec.channels, made.codec.copied), (2, false), "{format}");
    }
    assert_eq!(studio.extract(&surround, "copy").unwrap().codec.channels, 6);
    assert_eq!(studio.extract_with(&surround, json!({"format": "opus", "channels": 1})).unwrap().codec.channels, 1);

    let mono = studio.record("mono.wav", MONO);
    for (format, asked, rate) in [
        ("opus", None, 48_000),
        ("mp3", None, 44_100),
        ("mp3", Some(96_000), 48_000),
        ("m4a", Some(8_000), 8_000),
        ("flac", Some(96_000), 96_000),
        ("wav", Some(16_000), 16_000),
    ] {
        let made = studio.extract_with(&mono, json!({"format": format, "sample_rate": asked})).unwrap();
        assert_eq!((made.codec.sample_rate, made.codec.channels), (rate, 1), "{format} {asked:?}");
        assert!((seconds(&made.path) - 10.0).abs() <= 0.05, "{format}");
    }
}

#[test]
fn channels_whose_places_nobody_knows_are_left_and_right() {
    let studio = Studio::new();
    studio.record("many.raw", "-f lavfi -i sine=duration=3 -ac 1 -f s16le");
    let many = studio.record("many.wav", "-f s16le -ar 8000 -ac 12 -i many.raw");
    let made = studio.extract(&many, "flac").unwrap();
    assert_eq!(made.codec.channels, 2);
    assert_eq!(studio.extract_with(&many, json!({"format": "opus", "channels": 1})).unwrap().codec.channels, 1);
}

#[test]
fn a_probe_tells_what_a_recording_holds() {
    let studio = Studio::new();
    let film =
        probe(&studio.film("film.mkv", "-c:a aac -metadata:s:a:0 language=fra -disposition:a:0 default")).unwrap();
    assert_eq!(film.container, "matroska,webm");
    assert!(film.duration_ms.unwrap().abs_diff(10_000) < 50);
    let (video, audio) = (&film.streams[0], &film.streams[1]);
    assert_eq!(
        (video.codec.as_str(), video.width, video.height, video.frame_rate),
        ("mpeg4", Some(160), Some(120), Some(10.0))
    );
    assert_eq!((audio.codec.as_str(), audio.profile.as_deref()), ("aac", Some("LC")));
    assert_eq!((audio.sample_rate, audio.channels, audio.language.as_deref()), (Some(48_000), Some(2), Some("fra")));
    assert!(audio.default && !audio.cover);
    assert_eq!((film.chapters.len(), film.tags["title"].as_str()), (3, "Séance du soir"));
    assert!(film.bytes > 10_000 && film.bit_rate.unwrap() > 8_000);
}

#[test]
fn a_quality_is_a_variable_bit_rate() {
    let studio = Studio::new();
    let noise = "-f lavfi -i anoisesrc=color=pink:d=10:a=0.3 -ac 2";
    let recording = studio.record("recording.wav", noise);
    for format in ["mp3", "ogg"] {
        let rates: Vec<_> = [0, 2, 5, 9]
            .map(|quality| {
                studio.extract_with(&recording, json!({"format": format, "quality": quality})).unwrap().codec.bit_rate
                    / 1_000
            })
            .into();
        assert!(rates.is_sorted_by(|better, worse| better > worse), "{format}: {rates:?}");
        assert!(rates[0] > 140 && rates[3] < 90, "{format}: {rates:?}");
        // What is of that format already is not what was asked for.
        let made = studio.extract(&recording, format).unwrap();
        let file = studio.file("made", &std::fs::read(made.path).unwrap());
        assert!(!studio.extract_with(&file, json!({"format": format, "quality": 5})).unwrap().codec.copied);
    }
}
