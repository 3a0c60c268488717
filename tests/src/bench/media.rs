//! What extraction costs beside the `ffmpeg` program, through the real worker with everything around it.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use fourmi_client::Update;
use fourmi_egress::{Guard, Proxy};
use fourmi_model::{BlobId, State};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Figure, Goal, Report, quantile};
use crate::{
    Platform, Recording,
    media_server::{Content, MediaServer, Route},
};

/// Format, arguments of the ffmpeg program, ending of its file. The bit rates are our defaults.
const FORMATS: [(&str, &[&str], &str); 4] = [
    ("opus", &["-c:a", "libopus", "-b:a", "128k"], "opus"),
    ("mp3", &["-c:a", "libmp3lame", "-b:a", "128k"], "mp3"),
    ("flac", &["-c:a", "flac"], "flac"),
    ("copy", &["-c:a", "copy", "-movflags", "+faststart"], "m4a"),
];

/// The same with the loudness of our default, which needs a second run of the program. Its filter works at 192 kHz, so the
/// rate must be said.
const LOUD: [(&str, &[&str], &str); 2] = [
    ("opus", &["-c:a", "libopus", "-b:a", "128k", "-ar", "48000"], "opus"),
    ("mp3", &["-c:a", "libmp3lame", "-b:a", "128k", "-ar", "44100"], "mp3"),
];

/// Measures everything.
pub async fn run(mut report: Report) -> Report {
    let server = MediaServer::start();
    let platform = Platform::with(&[("FOURMI_EGRESS_ALLOW", &server.address().to_string())], 1).await;
    let folder = TempDir::new().unwrap();

    eprintln!("making recordings …");
    let minute = Recording { seconds: 60, picture: Some("1280x720"), ..Recording::default() };
    let minute = minute.make(folder.path(), "minute.mp4");
    let ten_minutes = repeated(&minute, 10, &["-c", "copy"], &folder.path().join("ten-minutes.mp4"));
    let three_hours = repeated(&minute, 180, &["-vn", "-c", "copy"], &folder.path().join("three-hours.m4a"));
    let file = platform.upload(&ten_minutes).await;
    for (format, arguments, ending) in FORMATS {
        eprintln!("{format}, in pairs …");
        let bare = json!({"format": format, "normalize": "off", "waveform": "off", "thumbnails": "off"});
        let output = folder.path().join("out").with_extension(ending);
        let mut ratios = Vec::new();
        for _ in 0..5 {
            let ours = extract(&platform, file, &bare).await;
            ratios.push(ours / ffmpeg(&ten_minutes, arguments, &output));
        }
        report.add(&Figure::of(format!("extract_{format}_wall_ratio"), "ratio", Goal::AtMost(1.1), &ratios));
    }
    for (format, arguments, ending) in LOUD {
        eprintln!("{format} with loudness, in pairs …");
        let loud = json!({"format": format, "waveform": "off", "thumbnails": "off"});
        let output = folder.path().join("out").with_extension(ending);
        let mut ratios = Vec::new();
        for _ in 0..3 {
            let ours = extract(&platform, file, &loud).await;
            ratios.push(ours / ffmpeg_loudnorm(&ten_minutes, arguments, &output));
        }
        report.add(&Figure::of(format!("extract_{format}_loudness_ratio"), "ratio", Goal::AtMost(1.1), &ratios));
    }

    eprintln!("submitting small jobs …");
    report.add(&first_events(&platform, folder.path()).await);

    eprintln!("fetching gigabytes …");
    for figure in downloads(&platform, &server, folder.path()).await {
        report.add(&figure);
    }

    eprintln!("three hours …");
    let file = platform.upload(&three_hours).await;
    for (name, options) in [
        ("extract_peak_rss_mib", json!({"format": "mp3", "normalize": "off", "waveform": "off", "thumbnails": "off"})),
        ("extract_defaults_peak_rss_mib", json!({})),
    ] {
        let peak = peak_memory(&platform, file, options).await;
        report.add(&Figure::of(name, "MiB", Goal::AtMost(150.0), &[peak]));
    }
    report
}

/// Seconds from the start of the run to its end; everything is made anew.
async fn extract(platform: &Platform, file: BlobId, options: &Value) -> f64 {
    let mut options = options.clone();
    options["reuse"] = false.into();
    let job = platform.run("audio.extract", file, options).await;
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

/// Seconds that the program takes for loudness in two passes: it measures, then it is told what it has measured.
fn ffmpeg_loudnorm(input: &Path, arguments: &[&str], output: &Path) -> f64 {
    let started = Instant::now();
    let targets = "loudnorm=I=-16:TP=-1.5:LRA=11";
    let mut command = Command::new("ffmpeg");
    command.args(["-hide_banner", "-nostats", "-nostdin", "-i"]).arg(input).arg("-vn");
    command.args(["-af", &format!("{targets}:print_format=json"), "-f", "null", "-"]);
    let said = String::from_utf8_lossy(&command.stdin(Stdio::null()).output().unwrap().stderr).into_owned();
    let (start, end) = (said.rfind('{').unwrap(), said.rfind('}').unwrap());
    let measured: Value = serde_json::from_str(&said[start..=end]).unwrap();
    let field = |name: &str| measured[name].as_str().unwrap().to_owned();
    let second = format!(
        "{targets}:measured_I={}:measured_TP={}:measured_LRA={}:measured_thresh={}:offset={}:linear=true",
        field("input_i"),
        field("input_tp"),
        field("input_lra"),
        field("input_thresh"),
        field("target_offset")
    );
    ffmpeg(input, &[&["-af", &second], arguments].concat(), output);
    started.elapsed().as_secs_f64()
}

/// One gigabyte from a server on this machine, beside what curl does, in pairs.
async fn downloads(platform: &Platform, server: &MediaServer, folder: &Path) -> Vec<Figure> {
    const BYTES: u64 = 1_000_000_000;
    let small = std::fs::read(Recording::default().make(folder, "small.mp4")).unwrap();
    // A box that every reader passes over makes any recording as large as one likes.
    let rest = BYTES - small.len() as u64;
    let free = [&u32::try_from(rest).unwrap().to_be_bytes()[..], b"free"].concat();
    let url = server.route("/large.mp4", Route::new(Content::padded([small, free].concat(), rest - 8), "video/mp4"));
    let (mut ours, mut direct, mut proxied, mut ratios) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let proxy = Proxy::start(Guard::parse(&server.address().to_string()).unwrap()).await.unwrap();
    for _ in 0..3 {
        let alone = curl(&url, "", &folder.join("curl.mp4")).await;
        let through_proxy = curl(&url, &proxy.url(), &folder.join("curl.mp4")).await;

        let payload = json!({
            "source": {"url": url}, "reuse": false, "format": "copy", "waveform": "off", "thumbnails": "off",
        });
        let handle = platform.client.submit_raw("audio.extract", payload).send().await.unwrap();
        let job = handle.wait().await.unwrap();
        assert_eq!(job.state, State::Succeeded, "{:?}", job.error);
        let download = job.result.unwrap()["timings_ms"]["download"].as_f64().unwrap() / 1_000.0;
        ours.push(BYTES as f64 / 1e6 / download);
        direct.push(BYTES as f64 / 1e6 / alone);
        proxied.push(BYTES as f64 / 1e6 / through_proxy);
        ratios.push(through_proxy / download);
    }
    vec![
        Figure::of("curl_1gb", "MB/s", Goal::None, &direct),
        Figure::of("curl_1gb_by_proxy", "MB/s", Goal::None, &proxied),
        Figure::of("download_1gb", "MB/s", Goal::None, &ours),
        Figure::of("download_1gb_rate_ratio", "ratio", Goal::AtLeast(0.9), &ratios),
    ]
}

/// The seconds that curl takes to fetch an address to a file, through a proxy if one is named.
async fn curl(url: &str, proxy: &str, output: &Path) -> f64 {
    let mut curl = tokio::process::Command::new("curl");
    curl.args(["-sSf", "--noproxy", "", "--proxy", proxy, "-o"]).arg(output).arg(url);
    let started = Instant::now();
    assert!(curl.status().await.unwrap().success());
    let seconds = started.elapsed().as_secs_f64();
    std::fs::remove_file(output).unwrap();
    seconds
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
                Update::Progress { .. } | Update::Log { .. } => true,
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
async fn peak_memory(platform: &Platform, file: BlobId, options: Value) -> f64 {
    let mut payload = json!({"source": {"upload": file}, "reuse": false});
    payload.as_object_mut().unwrap().extend(options.as_object().cloned().unwrap_or_default());
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
