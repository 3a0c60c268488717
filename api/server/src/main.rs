//! `fourmi-api`: the HTTP facade of Fourmi.

use std::process::ExitCode;

use clap::Parser;
use fourmi_api::{Server, Settings};
use fourmi_settings::{Environment, Logging};
use fourmi_telemetry::logging;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The HTTP facade of Fourmi. Its settings are read from the environment: `fourmi config` lists them.
#[derive(Parser)]
#[command(version)]
struct Arguments {}

/// The exit code of a server that was made to stop without draining.
const KILLED: u8 = 130;

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments {} = Arguments::parse();
    match run().await {
        Ok(code) => code,
        Err(error) => {
            tracing::error!("{error:#}");
            // The log may be filtered, or not be there yet.
            eprintln!("fourmi-api: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> anyhow::Result<ExitCode> {
    let environment = Environment::real();
    logging::init(&Logging::read(&environment)?)?;
    let settings = Settings::read(&environment)?;
    raise_file_limit();
    let mut signals = Signals::listen()?;
    let stop = CancellationToken::new();
    let server = tokio::select! {
        server = Server::bind(&settings, stop.clone()) => server?,
        () = signals.next() => return Ok(ExitCode::SUCCESS),
    };
    tracing::info!(address = %server.address()?, "listening");

    let mut serving = std::pin::pin!(server.run());
    tokio::select! {
        served = &mut serving => served?,
        () = signals.next() => {
            tracing::info!("draining; a second signal stops at once");
            stop.cancel();
            tokio::select! {
                served = &mut serving => served?,
                () = signals.next() => return Ok(ExitCode::from(KILLED)),
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The signals that ask a server to stop.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Every stream that is followed holds a file descriptor, of which systems allow few unless asked.
fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised =
        getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(error) = raised {
        tracing::warn!(%error, "the number of open files cannot be raised");
    }
}
