//! Every figure of the documents is made by this program; `scripts/bench` starts it.

#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on fails")]

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use fourmi_runtime::Worker;
use fourmi_tests::bench::{self, queue::Tick};

/// Measures Fourmi on this machine. Figures of different machines or moments do not compare; ratios of one run do.
#[derive(Parser)]
#[command(name = "scripts/bench")]
struct Arguments {
    #[command(subcommand)]
    what: What,
    /// One JSON object a line.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum What {
    /// Extraction of sound, beside the ffmpeg program.
    Media,
    /// The queue, beside what Redis itself can do.
    Queue,
    /// A worker of jobs that do nothing, until it is told to stop (for measuring from outside).
    Worker,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let figures = match arguments.what {
        What::Media => runtime().block_on(bench::media::run()),
        What::Queue => runtime().block_on(bench::queue::run()),
        What::Worker => {
            return Worker::new(bench::queue::QUEUE)
                .prefetch(1_000)
                .kind::<Tick, _, _>(async |_, _| Ok(()))
                .main();
        }
    };
    bench::print(&figures, arguments.json);
    if figures.iter().all(|figure| figure.met != Some(false)) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
