//! Covers, languages and old writing.

use crate::studio::{MONO, Studio, ffprobe, notes, probe};

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
