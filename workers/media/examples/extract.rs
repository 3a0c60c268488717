//! Extracts a file and prints what it took: `extract INPUT OUTPUT_DIR FORMAT`.

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
    let [_, input, output_dir, format] = arguments.as_slice() else {
        eprintln!("usage: extract INPUT OUTPUT_DIR FORMAT");
        return ExitCode::from(2);
    };
    let request = serde_json::json!({"source": {"upload": format!("file-{:032x}", 0)}, "format": format});
    let request: AudioExtract = match serde_json::from_value(request) {
        Ok(request) => request,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let started = Instant::now();
    match audio::extract(Path::new(input), Path::new(output_dir), &request, &audio::Extras::default(), None, &Quiet) {
        Ok(made) => {
            let took = serde_json::json!({
                "wall_s": started.elapsed().as_secs_f64(),
                "peak_rss_kib": peak_rss_kib(),
                "duration_ms": made.duration_ms,
                "bytes": made.bytes,
                "copied": made.codec.copied,
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

/// The most memory that this process held, in KiB; Linux alone tells.
fn peak_rss_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}
