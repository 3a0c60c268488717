//! The server: what it stands on, from start to drain.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use fourmi_blobs::Blobs;
use fourmi_kinds::catalogue;
use fourmi_queue::{OutboxConfig, Queues, Watcher, relay_all};
use fourmi_records::Records;
use fourmi_settings::{Data, Database, Door, Environment, Listen, Outbox, Redis, SettingError, Streams, Uploads};
use salvo::{Service, conn::tcp::TcpAcceptor, fuse::FuseConfig};
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;

use crate::{
    archiver,
    door::Doorkeeper,
    health::Checkup,
    keys::Keys,
    links::Links,
    routes::{
        files::{self, Files},
        health,
        jobs::{self, Jobs},
        keys as key_routes, kinds, queues, workers,
    },
    service::service,
    sse,
    sweeper::sweep,
};

/// How long requests may go on after the server was asked to stop.
const DRAIN: Duration = Duration::from_secs(10);

/// How long a body may stop coming.
const BODY_STALL: Duration = Duration::from_secs(30);

/// How long a client may stop reading: a player that was paused comes back with a range.
const WRITE_STALL: Duration = Duration::from_secs(5 * 60);

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// What the server needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The address.
    pub listen: Listen,
    /// The jobs.
    pub redis: Redis,
    /// The folder of files and keys.
    pub data: Data,
    /// The records.
    pub database: Database,
    /// The files that come in.
    pub uploads: Uploads,
    /// Streams of events.
    pub streams: Streams,
    /// Who may come in, and how often.
    pub door: Door,
    /// Finished jobs on their way into the records.
    pub outbox: Outbox,
}

impl Settings {
    /// Reads the settings.
    ///
    /// # Errors
    /// The first that is wrong or missing.
    pub fn read(environment: &Environment) -> Result<Self, SettingError> {
        Ok(Self {
            listen: Listen::read(environment)?,
            redis: Redis::read(environment)?,
            data: Data::read(environment)?,
            database: Database::read(environment)?,
            uploads: Uploads::read(environment)?,
            streams: Streams::read(environment)?,
            door: Door::read(environment)?,
            outbox: Outbox::read(environment)?,
        })
    }
}

/// A server that has its address and is ready to answer.
pub struct Server {
    listener: TcpListener,
    service: Service,
    stop: CancellationToken,
}

impl Server {
    /// Opens what the server stands on. Cancelling `stop` later makes it drain.
    ///
    /// # Errors
    /// If the address is taken, Redis does not answer, or the data folder or the records cannot be used.
    pub async fn bind(settings: &Settings, stop: CancellationToken) -> anyhow::Result<Self> {
        let listener = listen(settings.listen.address)
            .with_context(|| format!("FOURMI_LISTEN: cannot listen on {}", settings.listen.address))?;
        let blobs = Blobs::open(settings.data.files()).await?;
        let links = Arc::new(Links::load_or_create(&settings.data.link_key())?);
        let queues =
            Queues::connect_trusting(settings.redis.url.expose(), settings.redis.authorities.as_deref()).await?;
        let records = match &settings.database.url {
            Some(url) => Records::connect(url.expose()).await.context("DATABASE_URL")?,
            None => Records::open(&settings.data.records()).await?,
        };
        let outbox = OutboxConfig { most: settings.outbox.limit, ..OutboxConfig::default() };
        let keys = Arc::new(Keys::open(records.clone(), &settings.data).await?);
        tokio::spawn(stop.clone().run_until_cancelled_owned(Arc::clone(&keys).keep_up()));
        archiver::start(&queues, &records, outbox, &stop).await?;
        // A cancel by HTTP must move the jobs that wait even if no worker lives.
        let relaying = relay_all(queues.clone(), catalogue().queues());
        tokio::spawn(stop.clone().run_until_cancelled_owned(relaying));
        let keeper = Arc::new(Doorkeeper::new(settings.door.clone(), queues.clone()));
        let watcher = Watcher::start(queues.clone(), catalogue().queues());
        let streams = sse::Streams::new(settings.streams.per_key);
        let uploads = fourmi_blobs::Uploads::of(&blobs, settings.uploads.expiry);
        tokio::spawn(stop.clone().run_until_cancelled_owned(sweep(blobs.clone(), uploads.clone())));
        let max_upload_bytes = settings.uploads.max_bytes;
        let files = Files { blobs: blobs.clone(), uploads, max_upload_bytes, links: Arc::clone(&links) };
        let groups = vec![
            jobs::group(Jobs {
                queues: queues.clone(),
                records: records.clone(),
                watcher,
                streams,
                blobs,
                keeper: Arc::clone(&keeper),
                stop: stop.clone(),
            }),
            files::group(files),
            kinds::group(),
            queues::group(queues.clone()),
            workers::group(queues.clone()),
            key_routes::group(Arc::clone(&keys)),
            health::group(Checkup::new(queues, records, settings.data.files())),
        ];
        let service = service(keys, links, Some(keeper), groups);
        Ok(Self::of(listener, service, stop))
    }

    /// A server of a service on a listener.
    pub fn of(listener: TcpListener, service: Service, stop: CancellationToken) -> Self {
        Self { listener, service, stop }
    }

    /// The address that it listens on.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until it is asked to stop, and then until the last request is answered, ten seconds at most.
    ///
    /// # Errors
    /// If the system refuses to go on listening.
    pub async fn run(self) -> anyhow::Result<()> {
        let fuse = FuseConfig::default().with_request_body_timeout(BODY_STALL).with_write_stall_timeout(WRITE_STALL);
        let server = salvo::Server::new(TcpAcceptor::try_from(self.listener)?).fuse_config(fuse);
        let handle = server.handle();
        let stop = self.stop;
        tokio::spawn(async move {
            stop.cancelled().await;
            handle.stop_graceful(DRAIN);
        });
        Ok(server.try_serve(self.service).await?)
    }
}

/// Accepted connections inherit the listener's options: an event must not wait until the one before it is acknowledged.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.set_nodelay(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
