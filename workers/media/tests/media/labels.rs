//! Covers, languages and old writing.

use std::collections::BTreeMap;

use fourmi_kinds::Chapter;
use fourmi_media::audio::{self, Extras};
use serde_json::{Value, json};

use crate::studio::{MONO, Notebook, Studio, ffprobe, notes, packets, probe, request, samples};

fn with_cover(studio: &Studio, name: &str, codec: &str) -> std::path::PathBuf {
    studio.record("cover.png", "-f lavfi -i color=red:size=64x64 -frames:v 1");
    let cover = "-map 0:a -map 1:v -c:v copy -disposition:v attached_pic -metadata title=Song";
    studio.record(name, &format!("{MONO} -i cover.png {cover} -c:a {codec}"))
}

#[test]
fn a_cover_is_no_film_and_comes_along_where_there_is_room() {
    let studio = Studio::new();
    for (name, codec) in [("song.mp3", "libmp3lame"), ("song.flac", "flac"), ("song.m4a", "aac")] {
        let song = with_cover(&studio, name, codec);
        let info = probe(&song).unwrap();
        assert!(info.streams.iter().any(|stream| stream.cover), "{name}");
        for format in ["m4a", "mp3", "flac", "copy", "opus", "ogg"] {
            let made = studio.extract(&song, format).unwrap();
            let seen = ffprobe(&made.path);
            let covers = seen["streams"].as_array().unwrap().iter().filter(|s| s["disposition"]["attached_pic"] == 1);
            assert_eq!(covers.count(), 1, "{name} to {format}");
            assert_eq!((made.tags["title"].as_str(), notes(&made)), ("Song", vec![]), "{name} to {format}");
            assert!(made.duration_ms.abs_diff(10_000) <= 80, "{name} to {format}: {}", made.duration_ms);
        }
        let made = studio.extract(&song, "wav").unwrap();
        assert_eq!(notes(&made), ["cover_dropped"], "{name}");
    }
}

#[test]
fn a_cover_larger_than_what_is_looked_at_hides_nothing() {
    let studio = Studio::new();
    studio.record("cover.png", "-f lavfi -i nullsrc=size=1500x1500 -vf geq=random(1)*255:128:128 -frames:v 1");
    assert!(std::fs::metadata(studio.path("cover.png")).unwrap().len() > 1_200_000);
    let song = studio.record("song.mp3", &format!("{MONO} -i cover.png -map 0:a -map 1:v -c:v copy -c:a libmp3lame"));
    // Uploads have no ending that could help.
    let song = studio.file("upload", &std::fs::read(song).unwrap());
    assert!(studio.extract(&song, "opus").unwrap().duration_ms.abs_diff(10_000) <= 50);
}

#[test]
fn the_language_of_the_sound_comes_along() {
    let studio = Studio::new();
    let film = studio.film("film.mkv", "-c:a flac -metadata:s:a:0 language=fra -metadata:s:a:0 title=Commentary");
    for format in ["m4a", "mp3", "opus", "flac", "copy"] {
        let made = studio.extract(&film, format).unwrap();
        assert_eq!(made.tags["language"], "fra", "{format}");
        assert_eq!(made.tags["title"], "Séance du soir", "{format}: not the title of one stream among others");
    }
}

#[test]
fn tags_that_are_not_unicode_are_read_as_latin_1() {
    let studio = Studio::new();
    let song = studio.record("song.wav", &format!("{MONO} -metadata title=caf~"));
    let mut bytes = std::fs::read(&song).unwrap();
    let at = bytes.windows(4).position(|window| window == b"caf~").unwrap();
    bytes[at + 3] = 0xE9;
    let song = studio.file("song.wav", &bytes);
    assert_eq!(probe(&song).unwrap().tags["title"], "café");
    assert_eq!(studio.extract(&song, "mp3").unwrap().tags["title"], "café");
}

#[test]
fn tags_without_a_place_are_named() {
    let studio = Studio::new();
    let song = studio.record("song.flac", &format!("{MONO} -metadata title=Song -metadata colour=red"));
    let made = studio.extract(&song, "m4a").unwrap();
    assert_eq!(notes(&made), ["tags_dropped"]);
    assert!(made.notes[0].message.contains("colour"));
    assert_eq!(studio.extract(&song, "mp3").unwrap().tags["colour"], "red");
}

const FORMATS: [&str; 6] = ["m4a", "mp3", "opus", "ogg", "flac", "wav"];

#[test]
fn tags_are_set_taken_away_and_left_out() {
    let studio = Studio::new();
    let film = studio.film("film.mkv", "-c:a flac");
    let page: BTreeMap<String, String> = [("title", "From the page"), ("album", "The page"), ("publisher", "Fourmi")]
        .map(|(n, v)| (n.into(), v.into()))
        .into();
    let extras = Extras { tags: page, ..Extras::default() };
    for format in FORMATS {
        let tags = |tags: Value, extras: &Extras<'_>| {
            let request = request(json!({"format": format, "tags": tags}));
            audio::extract(&film, studio.output(), &request, extras, None, &Notebook::default()).unwrap().tags
        };
        let set = json!({"set": {"title": "Mine", "artist": "", "genre": "Débat"}});
        let made = tags(set.clone(), &extras);
        assert_eq!((made["title"].as_str(), made["genre"].as_str()), ("Mine", "Débat"), "{format}");
        assert_eq!((made["album"].as_str(), made.get("artist")), ("The page", None), "{format}");
        assert_eq!(tags(json!({}), &extras)["title"], "From the page", "{format}");

        let made = tags(json!({"from_source": false, "set": {"title": "Mine"}}), &extras);
        assert_eq!(made.keys().collect::<Vec<_>>(), ["title"], "{format}");
        assert_eq!(tags(json!({"from_source": false}), &extras), BTreeMap::new(), "{format}");
    }
}

fn chapters(times: &[(u64, u64)]) -> Vec<Chapter> {
    let chapter = |(number, &(start_ms, end_ms)): (usize, &(u64, u64))| Chapter {
        start_ms,
        end_ms,
        title: format!("Chapter {number} <&>"),
    };
    times.iter().enumerate().map(chapter).collect()
}

#[test]
fn chapters_beside_the_file_are_those_in_it() {
    let studio = Studio::new();
    let film = studio.film("film.mkv", "-c:a flac");
    let given = chapters(&[(0, 1_000), (1_000, 4_321), (4_321, 20_000)]);
    for format in FORMATS {
        for payload in [
            json!({"format": format}),
            json!({"format": format, "chapters": {"list": given}}),
            json!({"format": format, "trim": {"start_ms": 500, "end_ms": 7_250}}),
        ] {
            let made = studio.extract_with(&film, payload.clone()).unwrap();
            assert!(made.chapters.len() >= 2, "{payload}");
            let sidecar: Value = serde_json::from_str(&audio::chapters_json(&made.chapters)).unwrap();
            let seen = ffprobe(&made.path);
            let embedded = seen["chapters"].as_array().unwrap();
            if format == "wav" {
                assert!(embedded.is_empty());
                continue;
            }
            let beside = sidecar["chapters"].as_array().unwrap();
            assert_eq!(beside.len(), embedded.len(), "{payload}");
            for (beside, embedded) in beside.iter().zip(embedded) {
                let same = |one: &str, other: &str| {
                    let embedded: f64 = embedded[other].as_str().unwrap().parse().unwrap();
                    (beside[one].as_f64().unwrap() - embedded).abs() < 0.002
                };
                // Of the last, FFmpeg's program extends the end to that of the file.
                assert!(same("startTime", "start_time"), "{payload}: {beside} {embedded}");
                assert_eq!(beside["title"], embedded["tags"]["title"], "{payload}");
            }

            // What is not in the file is told all the same, in its times.
            let mut apart = payload.clone();
            apart["chapters"]["embed"] = json!(false);
            let apart = studio.extract_with(&film, apart).unwrap();
            assert!(ffprobe(&apart.path)["chapters"].as_array().unwrap().is_empty(), "{payload}");
            let starts =
                |chapters: &[Chapter]| chapters.iter().map(|c| (c.start_ms, c.title.clone())).collect::<Vec<_>>();
            assert_eq!(starts(&apart.chapters), starts(&made.chapters), "{payload}");
            assert!(apart.chapters.last().unwrap().end_ms <= apart.duration_ms);
            assert_eq!(notes(&apart), [""; 0], "{payload}");
        }
    }
}

#[test]
fn chapters_of_the_page_win_over_those_of_the_file_and_given_ones_over_both() {
    let studio = Studio::new();
    let film = studio.film("film.mkv", "-c:a flac");
    let extras = Extras { chapters: chapters(&[(0, 9_000)]), ..Extras::default() };
    for (payload, count) in [(json!({}), 1), (json!({"chapters": {"list": chapters(&[(0, 5), (5, 9_000)])}}), 2)] {
        let made =
            audio::extract(&film, studio.output(), &request(payload), &extras, None, &Notebook::default()).unwrap();
        assert_eq!(made.chapters.len(), count);
    }
}

#[test]
fn players_understand_the_cues() {
    let studio = Studio::new();
    let file =
        studio.file("chapters.vtt", audio::chapters_vtt(&chapters(&[(0, 1_500), (2_000, 3_661_001)])).as_bytes());
    let cues = std::process::Command::new("ffprobe")
        .args(["-v", "error", "-show_packets", "-of", "json"])
        .arg(file)
        .output()
        .unwrap();
    let cues: Value = serde_json::from_slice(&cues.stdout).unwrap();
    let times: Vec<_> =
        cues["packets"].as_array().unwrap().iter().map(|cue| (cue["pts"].clone(), cue["duration"].clone())).collect();
    assert_eq!(times, [(json!(0), json!(1_500)), (json!(2_000), json!(3_659_001))]);
}

#[test]
fn every_chapter_gets_its_file() {
    let studio = Studio::new();
    let film = studio.film("film.mkv", "-c:a flac");
    for (format, tolerance) in [("m4a", 45), ("mp3", 60), ("opus", 45), ("ogg", 60), ("flac", 100), ("wav", 90)] {
        let made = studio.extract(&film, format).unwrap();
        let notebook = Notebook::default();
        let parts = audio::split(&made.path, &made.chapters, studio.output(), &notebook).unwrap();
        assert_eq!(notebook.0.into_inner().unwrap().last().unwrap().percent, 100.0);
        assert_eq!(parts.len(), 3, "{format}");
        let (whole, sound) = (packets(&made.path), samples(&made.path, ""));
        for (part, chapter) in parts.iter().zip(&made.chapters) {
            let info = probe(&part.path).unwrap();
            let length = chapter.end_ms.min(10_000) - chapter.start_ms;
            assert!(
                info.duration_ms.unwrap().abs_diff(length) <= tolerance,
                "{format}: {:?} {length}",
                info.duration_ms
            );
            let tags = studio.extract(&part.path, "copy").unwrap().tags;
            assert_eq!(
                (&tags["title"], tags["track"].as_str()),
                (&chapter.title, format!("{}/3", part.number).as_str())
            );
            assert_eq!(tags["album"], "Débats", "{format}");
            assert_eq!((&part.chapter, part.bytes), (chapter, std::fs::metadata(&part.path).unwrap().len()));
            if ["m4a", "mp3", "opus"].contains(&format) {
                let part = packets(&part.path);
                assert!(
                    whole.windows(part.len()).any(|window| window == part),
                    "{format}: the packets are those of the whole"
                );
            }
        }
        if format == "flac" {
            let all: Vec<_> = parts.iter().flat_map(|part| samples(&part.path, "")).collect();
            assert!(all == sound, "no sample is lost or doubled");
        }
    }
    let beyond = chapters(&[(0, 5_000), (60_000, 70_000)]);
    let made = studio.extract(&film, "m4a").unwrap();
    assert_eq!(audio::split(&made.path, &beyond, studio.output(), &Notebook::default()).unwrap().len(), 1);
}
