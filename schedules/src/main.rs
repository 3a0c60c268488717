//! `fourmi-schedules`: makes the jobs of schedules.

use std::{process::ExitCode, sync::Arc};

use anyhow::Context as _;
use clap::Parser;
use fourmi_queue::Queues;
use fourmi_records::Records;
use fourmi_retention::{Disks, Reserve};
use fourmi_schedules::{Scheduler, add_chores};
use fourmi_settings::{Data, Database, Environment, Keep, Logging, Metrics, Redis};
use fourmi_telemetry::{logging, metrics::Listener};
use tokio::signal::unix::{SignalKind, signal};

/// Makes the jobs of schedules, each tick once, however many of it run. Its settings are read from the environment: `fourmi
/// config` lists them.
#[derive(Parser)]
#[command(name = "fourmi-schedules", version)]
struct Arguments {}

fn main() -> ExitCode {
    let Arguments {} = Arguments::parse();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let environment = Environment::real();
    logging::init(&Logging::read(&environment)?)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let ended = runtime.block_on(async {
        let mut interrupts = signal(SignalKind::interrupt())?;
        let mut terminations = signal(SignalKind::terminate())?;
        tokio::select! {
            ended = serve(&environment) => ended,
            // A tick that was not noted is met again by the next process.
            _ = interrupts.recv() => Ok(()),
            _ = terminations.recv() => Ok(()),
        }
    });
    runtime.shutdown_background();
    ended
}

async fn serve(environment: &Environment) -> anyhow::Result<()> {
    let (data, database) = (Data::read(environment)?, Database::read(environment)?);
    let redis = Redis::read(environment)?;
    let listener = Listener::open(&Metrics::read(environment)?).await?;
    let queues =
        Queues::connect_trusting(redis.url.expose(), redis.authorities.as_deref()).await.context("REDIS_URL")?;
    let records = match &database.url {
        Some(url) => Records::connect(url.expose()).await.context("DATABASE_URL")?,
        None => Records::open(&data.records()).await?,
    };
    if Keep::sees_to_itself(environment)? {
        add_chores(&records, queues.time().await?).await?;
    }
    let reserve = Reserve::new(Keep::read(environment)?.free_bytes);
    let disks = Disks::new(reserve, [data.folder().to_owned(), data.files()]);
    let scheduler = Arc::new(Scheduler::new(records, queues.clone(), disks));
    if let Some(listener) = listener {
        tracing::info!(address = %listener.address()?, "figures can be read");
        let counting = Arc::clone(&scheduler);
        tokio::spawn(listener.serve(move || {
            let (scheduler, queues) = (Arc::clone(&counting), queues.clone());
            async move { scheduler.metrics().page(&queues).await }
        }));
    }
    tracing::info!("ready");
    scheduler.run().await;
    Ok(())
}
