//! What pages and streams are made of; everything is cut by the `ffmpeg` program from a recording.

use std::{
    ffi::OsStr,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

/// The container of the segments of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segments {
    /// MPEG transport stream.
    Ts,
    /// Fragmented MP4 with an initialisation segment.
    Fmp4,
}

/// The media type of a file, by its name.
pub fn media_type(path: &Path) -> &'static str {
    match path.extension().and_then(OsStr::to_str).unwrap_or_default() {
        "mp4" => "video/mp4",
        "m4a" => "audio/mp4",
        "mp3" => "audio/mpeg",
        "wav" => "audio/wav",
        "m3u8" => "application/vnd.apple.mpegurl",
        "ts" => "video/mp2t",
        "m4s" => "video/iso.segment",
        "mpd" => "application/dash+xml",
        "jpg" => "image/jpeg",
        "png" => "image/png",
        "html" => "text/html; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// Writes a recording as an HLS stream on demand into `folder/index.m3u8`, with segments of `seconds`; with its picture, if
/// that is wanted.
pub fn hls(folder: &Path, recording: &Path, segments: Segments, picture: bool, seconds: u32) {
    std::fs::create_dir_all(folder).unwrap();
    let seconds = seconds.to_string();
    let mut command = ffmpeg(recording);
    command.args(["-map_chapters", "-1", "-c:a", "aac"]);
    if picture {
        command.args(["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-force_key_frames"]);
        command.arg(format!("expr:gte(t,n_forced*{seconds})"));
    } else {
        command.arg("-vn");
    }
    command.args(["-f", "hls", "-hls_time", &seconds, "-hls_list_size", "0", "-hls_playlist_type", "vod"]);
    let name = match segments {
        Segments::Ts => "segment-%03d.ts",
        Segments::Fmp4 => {
            command.args(["-hls_segment_type", "fmp4", "-hls_fmp4_init_filename", "init.mp4"]);
            "segment-%03d.m4s"
        }
    };
    command.arg("-hls_segment_filename").arg(folder.join(name));
    run(command.arg(folder.join("index.m3u8")));
}

/// Writes a recording as a DASH stream into `folder/manifest.mpd`.
pub fn dash(folder: &Path, recording: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    let mut command = ffmpeg(recording);
    command.args([
        "-map_chapters",
        "-1",
        "-c:a",
        "aac",
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-pix_fmt",
        "yuv420p",
    ]);
    run(command.args(["-f", "dash", "-seg_duration", "2"]).arg(folder.join("manifest.mpd")));
}

/// A picture of 640×360 as JPEG.
pub fn cover(folder: &Path) -> PathBuf {
    let path = folder.join("cover.jpg");
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-y", "-nostdin", "-f", "lavfi", "-i", "testsrc2=size=640x360", "-frames:v", "1"]);
    run(command.arg(&path));
    path
}

/// A page that plays a recording in a `<video>`.
pub fn page_with_video(title: &str, src: &str) -> String {
    format!(
        "<!doctype html><html><head><title>{title}</title></head><body><video controls src=\"{src}\"></video></body></html>"
    )
}

/// A page that says in its meta data (Open Graph) where its recording and its picture are.
pub fn page_with_og_video(title: &str, video: &str, image: &str) -> String {
    format!(
        "<!doctype html><html><head><title>{title}</title><meta property=\"og:title\" content=\"{title}\">\
         <meta property=\"og:video\" content=\"{video}\"><meta property=\"og:video:type\" content=\"video/mp4\">\
         <meta property=\"og:image\" content=\"{image}\"></head><body><p>Séance</p></body></html>"
    )
}

/// Bytes as `content-encoding: gzip` sends them.
pub fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut command = Command::new("gzip");
    let mut child = command.arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut input, bytes) = (child.stdin.take().unwrap(), bytes.to_owned());
    let writer = std::thread::spawn(move || input.write_all(&bytes));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    output.stdout
}

/// The chapters of a file as `(start, end, title)`, in milliseconds, as the `ffprobe` program reads them.
pub fn chapters_of(path: &Path) -> Vec<(u64, u64, String)> {
    let mut command = Command::new("ffprobe");
    command.args(["-v", "error", "-show_chapters", "-of", "json"]).arg(path);
    let output = command.stdin(Stdio::null()).output().expect("ffprobe comes with ffmpeg");
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let time = |value: &Value| {
        let seconds: f64 = value.as_str().unwrap().parse().unwrap();
        (seconds * 1_000.0).round() as u64
    };
    let chapters = found["chapters"].as_array().unwrap().iter();
    chapters
        .map(|it| {
            let title = it["tags"]["title"].as_str().unwrap_or_default().to_owned();
            (time(&it["start_time"]), time(&it["end_time"]), title)
        })
        .collect()
}

/// The width of a picture, as the `ffprobe` program reads it.
pub fn width_of(path: &Path) -> u32 {
    let mut command = Command::new("ffprobe");
    command.args(["-v", "error", "-show_entries", "stream=width", "-of", "csv=p=0"]).arg(path);
    let output = command.stdin(Stdio::null()).output().expect("ffprobe comes with ffmpeg");
    String::from_utf8_lossy(&output.stdout).trim().parse().unwrap()
}

fn ffmpeg(input: &Path) -> Command {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-y", "-nostdin", "-i"]).arg(input);
    command
}

fn run(command: &mut Command) {
    let status = command.stdin(Stdio::null()).status().expect("ffmpeg is installed by scripts/setup");
    assert!(status.success(), "{command:?} failed");
}
