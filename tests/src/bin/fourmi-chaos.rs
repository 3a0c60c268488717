//! Throws everything at the queue at once and says whether its promises held; `scripts/chaos` starts it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use fourmi_tests::chaos::{self, Options, Task, messages::MessageOptions};

/// Kills, pauses and cuts off workers, submitters and Redis at random, and checks that no promise of the queue breaks.
#[derive(Parser)]
#[command(name = "scripts/chaos", args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    options: Whole,
}

#[derive(Args)]
struct Whole {
    #[command(flatten)]
    options: Options,
}

/// Another chaos, and the parts of this one that are processes of their own.
#[derive(Subcommand)]
enum Part {
    /// Sends text messages and push notifications while workers are killed and providers misbehave
    Messages(MessageOptions),
    #[command(hide = true)]
    Worker,
    /// A worker's child.
    #[command(hide = true)]
    RunOneJob,
    #[command(hide = true)]
    Submitter(Task),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    match arguments.part {
        Some(Part::Worker | Part::RunOneJob) => chaos::worker(),
        Some(Part::Submitter(task)) => {
            runtime().block_on(chaos::submitter(task));
            ExitCode::SUCCESS
        }
        Some(Part::Messages(options)) => said(runtime().block_on(chaos::messages::run(options))),
        None => said(runtime().block_on(chaos::run(arguments.options.options))),
    }
}

fn said(held: bool) -> ExitCode {
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
