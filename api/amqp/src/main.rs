#![doc = include_str!("../README.md")]

mod broker;
mod events;
mod submissions;

use std::{future::pending, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::Parser;
use fourmi_kinds::catalogue;
use fourmi_model::Backoff;
use fourmi_queue::{Consumer, Outbox, OutboxConfig, Queues};
use fourmi_settings::{Amqp, ClientSettings, Environment, Logging, Outbox as OutboxSettings, Redis};
use fourmi_telemetry::logging;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::sleep,
};

use crate::{broker::Broker, submissions::Door};

/// The pause after a connection broke.
const BACKOFF: Backoff = Backoff { base: Duration::from_millis(200), cap: Duration::from_secs(5) };

/// Joins Fourmi to an AMQP broker: takes submissions from a queue, publishes what becomes of jobs. Settings come from the
/// environment: see `fourmi config`.
#[derive(Parser)]
#[command(name = "fourmi-amqp", version)]
struct Arguments {
    /// Has the queues put no events aside any more, and exits: for when there is no bridge from now on.
    #[arg(long)]
    close: bool,
}

fn main() -> ExitCode {
    let Arguments { close } = Arguments::parse();
    match run(close) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(close: bool) -> anyhow::Result<()> {
    let environment = Environment::real();
    logging::init(&Logging::read(&environment)?)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        let outboxes = outboxes(&environment).await?;
        if close {
            return close_all(&outboxes).await;
        }
        let amqp = Amqp::read(&environment)?;
        if amqp.events.is_none() {
            close_all(&outboxes).await?;
        }
        let client = ClientSettings::read(&environment)?;
        let door = Door::new(&client.url, client.key.load()?.expose())?;
        let mut interrupts = signal(SignalKind::interrupt())?;
        let mut terminations = signal(SignalKind::terminate())?;
        tokio::select! {
            () = bridge(&amqp, &door, &outboxes) => {}
            _ = interrupts.recv() => {}
            _ = terminations.recv() => {}
        }
        // What is not confirmed comes again: to this bridge's successor, or from it.
        Ok(())
    });
    runtime.shutdown_background();
    ended
}

/// From now on nothing is put aside for events.
async fn close_all(outboxes: &[Outbox]) -> anyhow::Result<()> {
    for outbox in outboxes {
        outbox.close().await?;
    }
    Ok(())
}

async fn outboxes(environment: &Environment) -> anyhow::Result<Vec<Outbox>> {
    let redis = Redis::read(environment)?;
    let most = OutboxSettings::read(environment)?.limit;
    let config = OutboxConfig { most, ..OutboxConfig::default() };
    let queues =
        Queues::connect_trusting(redis.url.expose(), redis.authorities.as_deref()).await.context("REDIS_URL")?;
    let mut outboxes = Vec::new();
    for queue in catalogue().queues() {
        outboxes.push(Outbox::of(&queues, queue, Consumer::Broker, config).await?);
    }
    Ok(outboxes)
}

/// Works for ever, over as many connections as break.
async fn bridge(amqp: &Amqp, door: &Door, outboxes: &[Outbox]) {
    let mut failures = 0;
    loop {
        match Broker::connect(amqp).await {
            Ok(broker) => {
                tracing::info!(queue = amqp.queue, events = amqp.events.as_deref().unwrap_or("off"), "ready");
                failures = 0;
                let publishing = async {
                    match &amqp.events {
                        Some(exchange) => events::publish(&broker, exchange, outboxes).await,
                        None => pending().await,
                    }
                };
                let broken = tokio::select! {
                    broken = submissions::take(&broker, door) => broken,
                    broken = publishing => broken,
                };
                tracing::warn!(
                    error = format_args!("{broken:#}"),
                    "the connection to the broker broke; connecting again"
                );
            }
            Err(error) => {
                if failures == 0 {
                    tracing::warn!(
                        error = format_args!("{error:#}"),
                        "the broker cannot be used; trying again until it can"
                    );
                }
            }
        }
        failures += 1;
        sleep(BACKOFF.delay(failures, rand::random())).await;
    }
}
