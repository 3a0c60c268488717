//! `fourmi up`: the platform on one machine, in one process tree.
//!
//! It takes the data folder for itself, starts Redis (unless `REDIS_URL` names one), the API and the workers, keeps
//! them running, and stops them in the opposite order: workers first, so that jobs under way can be finished and
//! settled, Redis last, so that all of it is on disk.

mod autoscale;
mod children;
mod follow;
mod lock;
mod output;
mod platform;
mod redis;
mod resp;
pub(crate) mod scale;
mod signals;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, ValueEnum};
use fourmi_settings::{Data, Environment, Fsync, Listen, Redis, Worker, table};
use serde_json::json;

use self::{autoscale::Rule, follow::Follower, output::Output, platform::Platform, scale::Scale, signals::Signals};
use crate::{
    commands::demo,
    exit::{Exit, Stop},
    print,
    session::Session,
};

const EXAMPLES: &str = "\
Examples:
  fourmi up                                  everything, in ./data
  fourmi up --scale media=3                  three processes of the media worker, until `fourmi scale` says otherwise
  fourmi up --autoscale media=1..4,wait=10s  as many as are needed for no job to wait for more than ten seconds
  FOURMI_DATA=/srv/fourmi fourmi up          another data folder
  REDIS_URL=redis://cache:6379 fourmi up     no private Redis

The first Ctrl-C or SIGTERM stops everything in order: workers finish their jobs or give them back
(FOURMI_DRAIN_SECONDS), then the API stops, then Redis. The second kills everything at once.";

/// How to start the platform.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct UpArguments {
    /// Processes of a worker, such as media=3; 0 for none [default: what `fourmi scale` said last, else 1 of each]
    #[arg(long, value_name = "WORKER=N", value_delimiter = ',')]
    scale: Vec<Scale>,
    /// Let there be as many processes of a worker as are needed, such as media=1..4,wait=10s,cooldown=60s: at least 1, at
    /// most 4, more while a job waits for over 10 s, one fewer when some process has been idle for 60 s
    #[arg(long, value_name = "WORKER=MIN..MAX[,…]")]
    autoscale: Vec<Rule>,
    /// Run `fourmi demo` once the platform is ready; with =exit, stop after it with its exit code
    #[arg(long, value_name = "THEN", num_args = 0..=1, require_equals = true, default_missing_value = "stay")]
    demo: Option<Afterwards>,
}

/// What happens after the demonstration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Afterwards {
    /// The platform stays up
    Stay,
    /// The platform stops, with the outcome of the demonstration
    Exit,
}

/// Everything that must be known before anything is started.
pub(crate) struct Settings {
    data: Data,
    redis: Option<Redis>,
    fsync: Fsync,
    address: SocketAddr,
    drain: Duration,
    /// This program. The others lie beside it.
    own: PathBuf,
    scale: Vec<Scale>,
}

pub(crate) async fn run(session: &Session, arguments: UpArguments) -> anyhow::Result<Exit> {
    let mut settings = Settings::read(session.environment(), &arguments)?;
    create_folder(settings.data.folder())?;
    let _held_until_the_end = lock::take(&settings.data)?;
    settings.address = free_address(settings.address)?;

    let mut signals = Signals::listen()?;
    let (output, writer) = Output::start(session.quiet());
    let mut platform = Platform::new(settings, session.json(), output.clone());
    let outcome = tokio::select! {
        biased;
        () = signals.next() => Ok(Exit::Done),
        outcome = serve(session, &mut platform, &arguments) => outcome,
    };
    let clean = platform.drain(&mut signals).await;
    if session.json() {
        print::json_line(&json!({"event": "stopped"}))?;
    }
    drop((platform, output));
    writer.finish().await;
    outcome.map(|exit| if clean { exit } else { Exit::Interrupted })
}

/// Starts everything and stays until something ends it.
async fn serve(session: &Session, platform: &mut Platform, arguments: &UpArguments) -> anyhow::Result<Exit> {
    platform.start().await?;
    let here = session.of_platform(platform.url(), platform.data());
    let follower = match here.client() {
        Ok(client) => Some(Follower::new(client, &arguments.autoscale)),
        Err(error) => {
            platform.note(&format!("`fourmi scale` is not heard: {error:#}"));
            None
        }
    };
    platform.start_workers(follower.as_ref()).await?;
    if let Some(afterwards) = arguments.demo {
        let outcome = demo::run(&here, demo::DemoArguments::default()).await;
        match afterwards {
            Afterwards::Exit => return outcome,
            // The platform is fine all the same; what went wrong is said, and it stays.
            Afterwards::Stay => drop(outcome.map_err(|error| crate::exit::report(session, &error))),
        }
    }
    platform.tell_ready()?;
    platform.attend(follower).await
}

impl Settings {
    fn read(environment: &Environment, arguments: &UpArguments) -> anyhow::Result<Self> {
        let mistakes: Vec<_> = environment.mistakes().iter().map(ToString::to_string).collect();
        if !mistakes.is_empty() {
            return Err(Stop::usage(mistakes.join("\n")));
        }
        Ok(Self {
            data: Data::read(environment)?,
            redis: Redis::optional(environment)?,
            fsync: fourmi_settings::PrivateRedis::read(environment)?.fsync,
            address: Listen::read(environment)?.address,
            drain: Worker::read(environment)?.drain,
            own: std::env::current_exe()?,
            scale: arguments.scale.clone(),
        })
    }

    /// The address for clients on this machine.
    fn url(&self) -> String {
        let ip = match self.address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        format!("http://{}", SocketAddr::new(ip, self.address.port()))
    }
}

/// The data folder holds keys and what people uploaded: a new one is for its owner alone.
fn create_folder(folder: &Path) -> anyhow::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| {
        let name = table::DATA.name;
        Stop::usage(format!("the data folder {} cannot be made: {error}; {name} names another", folder.display()))
    })
}

/// Finds out before anything is started whether another program has the address; takes a free port for port 0, so that
/// the API has the same one after a restart.
fn free_address(address: SocketAddr) -> anyhow::Result<SocketAddr> {
    let taken = TcpListener::bind(address).and_then(|listener| listener.local_addr());
    taken.map_err(|error| {
        let name = table::LISTEN.name;
        Stop::usage(format!(
            "the API cannot listen on {address}: {error}.\nStop the program that does, or choose another address with {name}; {name}=127.0.0.1:0 takes any free port"
        ))
    })
}
