//! Every figure of the documents is made by this program; `scripts/bench` starts it.

#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on fails")]

use std::{fs::File, io::Write, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};
use fourmi_queue::Queues;
use fourmi_runtime::Worker;
use fourmi_tests::bench::{
    self,
    queue::{How, Tick, monotonic_ns},
};

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
    /// Doors for other systems: webhooks, AMQP, jobs that are leased and settled by HTTP.
    Doors {
        /// One of them alone.
        #[arg(long)]
        only: Option<bench::doors::Door>,
    },
    /// The API, beside a bare handler that does one LPUSH.
    Http,
    /// Reduction, clustering and anomalies, beside scikit-learn, openTSNE and umap-learn.
    Insight {
        /// These algorithms alone.
        #[arg(long, value_delimiter = ',')]
        only: Vec<bench::insight::Algorithm>,
        /// Tables of these sizes alone.
        #[arg(long, value_delimiter = ',')]
        rows: Vec<bench::insight::Rows>,
    },
    /// Extraction of sound, beside the ffmpeg program.
    Media,
    /// Push notifications: a broadcast to a million devices.
    Messaging,
    /// Logins, and what they cost others.
    People,
    /// The queue, beside what Redis itself can do.
    Queue {
        /// Also what takes minutes: the cost with a million jobs waiting.
        #[arg(long)]
        full: bool,
        /// Only what traces cost.
        #[arg(long, conflicts_with = "full")]
        traces: bool,
    },
    /// Schedules: how late they are when many are due at once, and what they cost at rest.
    Schedules,
    /// One fit of `insight`, in a process of its own.
    #[command(hide = true)]
    InsightFit(bench::insight::Task),
    /// That bare handler (`REDIS_URL`), until it is stopped.
    #[command(hide = true)]
    Bare,
    /// A worker of jobs that do nothing, until it is told to stop (for measuring from outside).
    Worker,
    /// A client (for measuring from outside).
    #[command(subcommand)]
    Client(Client),
}

#[derive(Subcommand)]
enum Client {
    /// Pushes N jobs and prints how long that took; `BENCH_WARM` jobs before are not timed.
    Enqueue {
        /// One after the other, `BENCH_CONC` at a time, or `BENCH_BATCH` in a call.
        how: How,
        /// How many.
        jobs: u64,
    },
    /// Pushes N jobs, one every MS milliseconds.
    Produce {
        /// How many.
        jobs: u64,
        /// The pause.
        ms: u64,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let report = || bench::Report::start(arguments.json);
    let report = match arguments.what {
        What::Http => runtime().block_on(bench::http::run(report())),
        What::Bare => {
            runtime().block_on(bench::http::bare::serve());
            return ExitCode::SUCCESS;
        }
        What::Doors { only } => runtime().block_on(bench::doors::run(report(), only)),
        What::Insight { only, rows } => bench::insight::run(report(), &only, &rows),
        What::InsightFit(task) => {
            bench::insight::solve(&task);
            return ExitCode::SUCCESS;
        }
        What::Media => runtime().block_on(bench::media::run(report())),
        What::Messaging => runtime().block_on(bench::messaging::run(report())),
        What::People => runtime().block_on(bench::people::run(report())),
        What::Queue { traces: true, .. } => runtime().block_on(bench::queue::traces(report())),
        What::Queue { full, .. } => runtime().block_on(bench::queue::run(report(), full)),
        What::Schedules => runtime().block_on(bench::schedules::run(report())),
        What::Worker => return worker(),
        What::Client(client) => {
            runtime().block_on(run_client(client));
            return ExitCode::SUCCESS;
        }
    };
    if report.met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn worker() -> ExitCode {
    let log = std::env::var_os("BENCH_LOG").map(|path| File::options().create(true).append(true).open(path).unwrap());
    let log: &'static Option<File> = Box::leak(Box::new(log));
    let work = std::env::var("BENCH_WORK_MS").ok().map(|ms| Duration::from_millis(ms.parse().unwrap()));
    Worker::new(bench::queue::QUEUE)
        .prefetch(if work.is_some() { 0 } else { 1_000 })
        .kind::<Tick, _, _>(move |tick: Tick, _| async move {
            if let Some(work) = work {
                tokio::time::sleep(work).await;
            }
            if let Some(mut log) = log.as_ref() {
                let line = [tick.id, tick.t0, monotonic_ns()].map(u64::to_le_bytes).concat();
                log.write_all(&line).unwrap();
            }
            Ok(())
        })
        .main()
}

async fn run_client(client: Client) {
    let queues = Queues::connect(&std::env::var("REDIS_URL").unwrap()).await.unwrap();
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    match client {
        Client::Enqueue { how, jobs } => {
            let size = match how {
                How::Seq => 1,
                How::Conc => number("BENCH_CONC", 64),
                How::Bulk => number("BENCH_BATCH", 500),
            };
            let warm = number("BENCH_WARM", 0);
            bench::queue::enqueue(&queues, jobs..jobs + warm, how, size).await;
            let (started, cpu) = (monotonic_ns(), bench::queue::cpu_seconds());
            bench::queue::enqueue(&queues, 0..jobs, how, size).await;
            let secs = (monotonic_ns() - started) as f64 / 1e9;
            println!("{}", serde_json::json!({"n": jobs, "secs": secs, "cpu": bench::queue::cpu_seconds() - cpu}));
        }
        Client::Produce { jobs, ms } => {
            let mut ticks = tokio::time::interval(Duration::from_millis(ms.max(1)));
            for id in 0..jobs {
                ticks.tick().await;
                bench::queue::enqueue(&queues, id..id + 1, How::Seq, 1).await;
            }
        }
    }
}
