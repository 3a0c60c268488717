//! Covers, frames of films, and picture files of foreign origin.

use std::path::{Path, PathBuf};

use fourmi_kinds::{PictureSizes, Thumbnails};
use fourmi_media::{
    audio::{self, Extras},
    pictures::{self, Found, Pictures},
};
use serde_json::json;

use crate::studio::{MONO, Notebook, Studio, ffprobe, notes, request};

const JPG: Thumbnails = Thumbnails::Jpg(PictureSizes { cover: 320, small: 64 });
const WEBP: Thumbnails = Thumbnails::Webp(PictureSizes { cover: 320, small: 64 });

fn find(studio: &Studio, path: &Path, form: Thumbnails) -> Found {
    let found = pictures::thumbnails(path, form, studio.output(), &Notebook::default()).unwrap();
    let names = std::fs::read_dir(studio.output()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(names.into_iter().all(|name| !name.to_string_lossy().starts_with('.')), "a temporary file was left behind");
    found
}

fn made(studio: &Studio, path: &Path, form: Thumbnails) -> Pictures {
    let Found { pictures, notes } = find(studio, path, form);
    assert!(notes.is_empty(), "{notes:?}");
    let pictures = pictures.unwrap();
    for (path, (width, height)) in [(&pictures.cover, pictures.cover_size), (&pictures.small, pictures.small_size)] {
        let stream = &ffprobe(path)["streams"][0];
        let codec = if matches!(form, Thumbnails::Jpg(_)) { "mjpeg" } else { "webp" };
        assert_eq!((stream["codec_name"].as_str(), stream["width"].as_u64()), (Some(codec), Some(u64::from(width))));
        assert_eq!(stream["height"].as_u64(), Some(u64::from(height)));
    }
    pictures
}

/// The mean colour of a picture, as the `ffmpeg` program sees it.
fn colour(path: &Path) -> [u8; 3] {
    let run = std::process::Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(path)
        .args(["-vf", "scale=1:1:flags=area", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"])
        .output()
        .unwrap();
    run.stdout.try_into().unwrap()
}

fn is_red([red, green, blue]: [u8; 3]) -> bool {
    red > 200 && green < 60 && blue < 60
}

fn red(studio: &Studio, name: &str) -> PathBuf {
    studio.record(name, "-f lavfi -i color=red:size=600x400 -frames:v 1")
}

#[test]
fn picture_files_of_every_sort_are_taken() {
    let studio = Studio::new();
    for name in ["a.jpg", "a.png", "a.webp"] {
        // Downloads have no ending that could help.
        let picture = studio.file("download", &std::fs::read(red(&studio, name)).unwrap());
        for form in [JPG, WEBP] {
            let pictures = made(&studio, &picture, form);
            assert_eq!((pictures.cover_size, pictures.small_size), ((320, 213), (64, 43)), "{name}");
            assert!(is_red(colour(&pictures.cover)) && is_red(colour(&pictures.small)), "{name}");
        }
    }
    let pictures = made(&studio, &studio.path("download"), Thumbnails::Jpg(PictureSizes::default()));
    assert_eq!(pictures.cover_size, (600, 400), "not larger than its source");
    assert_eq!(find(&studio, &studio.path("download"), Thumbnails::Off), Found::default());
}

#[test]
fn the_cover_of_a_recording_is_found() {
    let studio = Studio::new();
    red(&studio, "cover.png");
    for (name, codec) in [("song.mp3", "libmp3lame"), ("song.flac", "flac"), ("song.m4a", "aac")] {
        let cover = "-map 0:a -map 1:v -c:v copy -disposition:v attached_pic";
        let song = studio.record(name, &format!("{MONO} -i cover.png {cover} -c:a {codec}"));
        assert!(is_red(colour(&made(&studio, &song, JPG).cover)), "{name}");
    }
    let plain = studio.record("plain.mp3", MONO);
    assert_eq!(find(&studio, &plain, JPG), Found::default());
}

/// Three seconds of black, then a red picture.
fn film(studio: &Studio, name: &str, codec: &str) -> PathBuf {
    let picture = "-f lavfi -i color=black:s=160x120:r=10:d=3,tpad=stop=170:color=red";
    studio.record(name, &format!("{picture} -f lavfi -i sine=duration=20 {codec} -g 10"))
}

#[test]
fn a_frame_of_a_film_is_not_black_if_there_is_another() {
    let studio = Studio::new();
    for (name, codec) in [
        ("film.mp4", "-c:v libx264 -preset ultrafast -c:a aac"),
        ("film.mkv", "-c:v mpeg4 -c:a flac"),
        ("film.ts", "-c:v mpeg2video -c:a mp2"),
        ("film.webm", "-c:v libvpx -deadline realtime -c:a libopus"),
    ] {
        let film = film(&studio, name, codec);
        let pictures = made(&studio, &film, JPG);
        assert!(is_red(colour(&pictures.cover)), "{name}: {:?}", colour(&pictures.cover));
        assert_eq!(pictures.cover_size, (160, 120), "{name}");
    }
    let black = studio.record("black.mkv", "-f lavfi -i color=black:s=160x120:r=10:d=3 -c:v mpeg4");
    assert!(colour(&made(&studio, &black, JPG).cover).iter().all(|&part| part < 20), "black is better than nothing");
}

#[test]
fn a_broken_picture_is_a_note() {
    let studio = Studio::new();
    let whole = std::fs::read(red(&studio, "a.png")).unwrap();
    for (name, content) in [
        ("half.png", &whole[..whole.len() / 2]),
        ("start.jpg", b"\xFF\xD8\xFF\xE0\x00\x10JFIF"),
        ("start.webp", b"RIFF\x10\x00\x00\x00WEBPVP8 \x00\x00"),
        ("text.jpg", b"<html>not found</html>"),
        ("empty.jpg", b""),
    ] {
        let Found { pictures, notes } = find(&studio, &studio.file(name, content), JPG);
        // libav fills in what it can of a picture that is cut off.
        assert!(pictures.is_some() || notes[0].code == "picture_unreadable", "{name}: {notes:?}");
        assert!(name == "half.png" || pictures.is_none(), "{name}");
    }
}

#[test]
fn a_picture_bomb_is_refused() {
    let studio = Studio::new();
    let mut bomb = std::fs::read(red(&studio, "a.png")).unwrap();
    let size = bomb.windows(4).position(|window| window == b"IHDR").unwrap() + 4;
    bomb[size..size + 8].copy_from_slice(&[0, 0, 0xF0, 0, 0, 0, 0xF0, 0]);
    // A reader that checks sums would refuse it anyway: mend the sum.
    let sum = crc32(&bomb[size - 4..size + 13]).to_be_bytes();
    bomb[size + 13..size + 17].copy_from_slice(&sum);
    let started = std::time::Instant::now();
    let Found { pictures, notes } = find(&studio, &studio.file("bomb.png", &bomb), JPG);
    assert_eq!((pictures, notes[0].code.as_str()), (None, "picture_unreadable"));
    assert!(started.elapsed().as_secs() < 2);
}

/// CRC-32 as PNG has it.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum: u32, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| (sum >> 1) ^ if sum & 1 == 1 { 0xEDB8_8320 } else { 0 })
    })
}

#[test]
fn flipped_bits_in_pictures_are_survived() {
    let studio = Studio::new();
    for name in ["a.jpg", "a.png", "a.webp"] {
        let whole = std::fs::read(red(&studio, name)).unwrap();
        for seed in 1..40_usize {
            let mut bytes = whole.clone();
            for flip in 1..6 {
                let at = seed * 7_919 * flip % bytes.len().min(400);
                bytes[at] ^= 1 << (seed * flip % 8);
            }
            find(&studio, &studio.file("broken", &bytes), JPG);
        }
    }
}

#[test]
fn the_picture_of_the_page_becomes_the_cover() {
    let studio = Studio::new();
    let song = studio.record("song.wav", MONO);
    for name in ["page.jpg", "page.png", "page.webp"] {
        let page = red(&studio, name);
        for format in ["m4a", "mp3", "flac", "opus", "ogg"] {
            let extras = Extras { cover: Some(&page), ..Extras::default() };
            let request = request(json!({"format": format}));
            let made = audio::extract(&song, studio.output(), &request, &extras, None, &Notebook::default()).unwrap();
            assert_eq!(notes(&made), [""; 0], "{name} {format}");
            let found = find(&studio, &made.path, JPG).pictures.unwrap();
            assert!(is_red(colour(&found.cover)), "{name} {format}");
            let seen = ffprobe(&made.path);
            let covers = seen["streams"].as_array().unwrap().iter().filter(|s| s["disposition"]["attached_pic"] == 1);
            assert_eq!(covers.count(), 1, "{name} {format}");
        }
    }
    let broken = studio.file("broken.jpg", b"\xFF\xD8\xFFnonsense");
    let extras = Extras { cover: Some(&broken), ..Extras::default() };
    let request = request(json!({"format": "mp3"}));
    let made = audio::extract(&song, studio.output(), &request, &extras, None, &Notebook::default()).unwrap();
    assert_eq!(notes(&made), ["picture_unreadable"]);
}

#[test]
fn a_film_lends_its_frame_unless_no_cover_is_wanted() {
    let studio = Studio::new();
    let film = film(&studio, "film.mp4", "-c:v mpeg4 -c:a aac");
    for format in ["m4a", "mp3", "flac", "opus", "ogg"] {
        let made = studio.extract(&film, format).unwrap();
        assert!(is_red(colour(&find(&studio, &made.path, JPG).pictures.unwrap().cover)), "{format}");
        let made = studio.extract_with(&film, json!({"format": format, "tags": {"cover": false}})).unwrap();
        assert_eq!(find(&studio, &made.path, JPG), Found::default(), "{format}");
    }
}
