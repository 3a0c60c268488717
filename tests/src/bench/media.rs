//! What extraction costs beside the `ffmpeg` program, through the real worker with everything around it.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use fourmi_client::Update;
use fourmi_model::{BlobId, State};
use futures_util::StreamExt;
use serde_json::json;
use tempfile::TempDir;

use super::{Figure, Goal, quantile};
use crate::{Platform, Recording};

/// Format, arguments of the ffmpeg program, ending of its file. The bit rates are our defaults.
const FORMATS: [(&str, &[&str], &str); 4] = [
    ("opus", &["-c:a", "libopus", "-b:a", "128k"], "opus"),
    ("mp3", &["-c:a", "libmp3lame", "-b:a", "128k"], "mp3"),
    ("flac", &["-c:a", "flac"], "flac"),
    ("copy", &["-c:a", "copy", "-movflags", "+faststart"], "m4a"),
];

/// Measures everything.
pub async fn run() -> Vec<Figure> {
    let platform = Platform::start().await;
    let folder = TempDir::new().unwrap();
    let mut figures = Vec::new();

    eprintln!("making recordings …");
    let minute = Recording { seconds: 60, picture: Some("1280x720"), ..Recording::default() };
    let minute = minute.make(folder.path(), "minute.mp4");
    let ten_minutes = repeated(&minute, 10, &["-c", "copy"], &folder.path().join("ten-minutes.mp4"));
    let three_hours = repeated(&minute, 180, &["-vn", "-c", "copy"], &folder.path().join("three-hours.m4a"));
    let file = platform.upload(&ten_minutes).await;
    for (format, arguments, ending) in FORMATS {
        eprintln!("{format}, in pairs …");
        let mut ratios = Vec::new();
        for _ in 0..5 {
            let ours = extract(&platform, file, format).await;
            let theirs = ffmpeg(&ten_minutes, arguments, &folder.path().join("out").with_extension(ending));
            ratios.push(ours / theirs);
        }
        figures.push(Figure::of(format!("extract_{format}_wall_ratio"), "ratio", Goal::AtMost(1.1), &ratios));
    }

    eprintln!("submitting small jobs …");
    figures.push(first_events(&platform, folder.path()).await);

    eprintln!("three hours …");
    let file = platform.upload(&three_hours).await;
    let peak = peak_memory(&platform, file).await;
    figures.push(Figure::of("extract_peak_rss_mib", "MiB", Goal::AtMost(150.0), &[peak]));
    figures
}

/// Seconds from the start of the run to its end.
async fn extract(platform: &Platform, file: BlobId, format: &str) -> f64 {
    let job = platform.run("audio.extract", file, json!({"format": format})).await;
    assert_eq!(job.state, State::Succeeded, "{:?}", job.error);
    job.finished_at.unwrap().duration_since(job.started_at.unwrap()).as_secs_f64()
}

fn ffmpeg(input: &Path, arguments: &[&str], output: &Path) -> f64 {
    let started = Instant::now();
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-y", "-nostdin", "-i"]).arg(input).arg("-vn").args(arguments).arg(output);
    assert!(command.stdin(Stdio::null()).status().unwrap().success());
    started.elapsed().as_secs_f64()
}

/// From the call that submits a job to the first event that says that it runs.
async fn first_events(platform: &Platform, folder: &Path) -> Figure {
    let file = platform.upload(&Recording { seconds: 1, ..Recording::default() }.make(folder, "second.mp4")).await;
    let mut waits = Vec::new();
    for _ in 0..200 {
        let started = Instant::now();
        let payload = json!({"source": {"upload": file}});
        let handle = platform.client.submit_raw("media.probe", payload).send().await.unwrap();
        let mut updates = handle.events();
        while let Some(update) = updates.next().await {
            let runs = match update.unwrap() {
                Update::Snapshot(job) | Update::State(job) => job.run > 0,
                Update::Progress { .. } => true,
                Update::Interrupted { .. } => false,
            };
            if runs {
                break;
            }
        }
        waits.push(started.elapsed().as_secs_f64() * 1_000.0);
        handle.wait().await.unwrap();
    }
    waits.sort_by(f64::total_cmp);
    let mut figure = Figure::of("submit_to_first_event_p95_ms", "ms", Goal::AtMost(50.0), &[quantile(&waits, 0.95)]);
    figure.spread = (waits[0], waits[waits.len() - 1]);
    figure
}

/// A recording so many times over, without encoding it again.
fn repeated(recording: &Path, times: u32, arguments: &[&str], output: &Path) -> PathBuf {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-y", "-nostdin", "-stream_loop", &(times - 1).to_string(), "-i"]).arg(recording);
    assert!(command.args(arguments).arg(output).stdin(Stdio::null()).status().unwrap().success());
    output.to_owned()
}

/// The largest resident memory of the child that does the work, in MiB.
async fn peak_memory(platform: &Platform, file: BlobId) -> f64 {
    let payload = json!({"source": {"upload": file}, "format": "mp3"});
    let handle = platform.client.submit_raw("audio.extract", payload).send().await.unwrap();
    let worker = platform.workers[0].pid();
    let done = handle.wait();
    tokio::pin!(done);
    let mut peak: f64 = 0.0;
    loop {
        tokio::select! {
            job = &mut done => {
                assert_eq!(job.unwrap().state, State::Succeeded);
                return peak;
            }
            () = tokio::time::sleep(std::time::Duration::from_millis(20)) => {
                peak = peak.max(children_of(worker).map(peak_of).fold(0.0, f64::max));
            }
        }
    }
}

fn children_of(parent: u32) -> impl Iterator<Item = u32> {
    let tasks = std::fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let children: Vec<u32> =
        lists.flat_map(|list| list.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<_>>()).collect();
    children.into_iter()
}

/// The peak of a process's resident memory, in MiB.
fn peak_of(process: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kibibytes.unwrap_or(0.0) / 1024.0
}
