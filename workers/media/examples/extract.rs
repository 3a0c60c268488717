//! Extracts a file and prints what it took: `extract INPUT OUTPUT_DIR PAYLOAD`, the payload as JSON without its source.

use std::{path::Path, process::ExitCode, time::Instant};

use fourmi_kinds::AudioExtract;
use fourmi_media::{Control, audio};
use fourmi_model::Progress;

struct Quiet;

impl Control for Quiet {
    fn progress(&self, _: Progress) {}

    fn cancelled(&self) -> bool {
        false
    }
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().collect();
    let [_, input, output_dir, payload] = arguments.as_slice() else {
        eprintln!("usage: extract INPUT OUTPUT_DIR PAYLOAD");
        return ExitCode::from(2);
    };
    let request = match request(payload) {
        Ok(request) => request,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let (input, extras) = (Path::new(input), audio::Extras::default());
    let started = Instant::now();
    let analysis = audio::analyse(input, &request, &extras, &Quiet);
    let analysed = started.elapsed().as_secs_f64();
    let made = analysis.and_then(|analysis| {
        audio::extract(input, Path::new(output_dir), &request, &extras, analysis.as_ref(), &Quiet)
    });
    match made {
        Ok(made) => {
            let took = serde_json::json!({
                "analyse_s": analysed,
                "wall_s": started.elapsed().as_secs_f64(),
                "peak_rss_kib": peak_rss_kib(),
                "duration_ms": made.duration_ms,
                "bytes": made.bytes,
                "copied": made.codec.copied,
                "loudness": made.loudness,
                "notes": made.notes,
            });
            println!("{took}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("{failure}\n{}", failure.cause.as_deref().unwrap_or_default());
            ExitCode::FAILURE
        }
    }
}

fn request(payload: &str) -> serde_json::Result<AudioExtract> {
    let mut payload: serde_json::Value = serde_json::from_str(payload)?;
    if let Some(payload) = payload.as_object_mut() {
        payload.insert("source".to_owned(), serde_json::json!({"upload": format!("file-{:032x}", 0)}));
    }
    serde_json::from_value(payload)
}

/// The most memory that this process held, in KiB; Linux alone tells.
fn peak_rss_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}
