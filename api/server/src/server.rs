//! The server: what it stands on, from start to drain.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use fourmi_blobs::Blobs;
use fourmi_kinds::catalogue;
use fourmi_queue::{External, OutboxConfig, Queues, Watcher, relay_all};
use fourmi_records::Records;
use fourmi_retention::{Disks, Keeper, Reserve};
use fourmi_secrets::Secrets;
use fourmi_settings::{
    Data, Database, Door, Environment, Keep, Listen, Outbox, People as PeopleSettings, Redis, SettingError, Streams,
    Traces, Uploads, Worker,
};
use fourmi_telemetry::traces::Tracer;
use salvo::{Service, conn::tcp::TcpAcceptor, fuse::FuseConfig};
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;

use crate::{
    LimitHits, Monitor, Requests, archiver,
    auth::Admission,
    disk::Disk,
    door::Doorkeeper,
    health::Checkup,
    keys::Keys,
    kinds::Kinds,
    links::Links,
    people::People,
    routes::{
        audit, auth, devices,
        erase::keep_erasing,
        files::{self, Files},
        health, insight,
        jobs::{self, Jobs},
        keys as key_routes, kinds, metrics, providers, queues, schedules,
        sms::{self, Sms},
        stats, suppressions, tenants, users, webhooks,
        work::{self, Work},
        workers,
    },
    service::service,
    sse,
    sweeper::sweep,
    webhooks::Webhooks,
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
    /// How long things are kept, and the room that they leave.
    pub keep: Keep,
    /// Streams of events.
    pub streams: Streams,
    /// Who may come in, and how often.
    pub door: Door,
    /// The people.
    pub people: PeopleSettings,
    /// Finished jobs on their way into the records.
    pub outbox: Outbox,
    /// Traces.
    pub traces: Traces,
    /// What holds for workers of other systems as for those of our own.
    pub worker: Worker,
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
            keep: Keep::read(environment)?,
            streams: Streams::read(environment)?,
            door: Door::read(environment)?,
            people: PeopleSettings::read(environment)?,
            outbox: Outbox::read(environment)?,
            traces: Traces::read(environment)?,
            worker: Worker::read(environment)?,
        })
    }
}

/// A server that has its address and is ready to answer.
pub struct Server {
    listener: TcpListener,
    service: Service,
    stop: CancellationToken,
    tracer: Option<Tracer>,
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
        let folders = [settings.data.folder().to_owned(), settings.data.files()];
        let disk = Disk::new(Disks::new(Reserve::new(settings.keep.free_bytes), folders));
        // The first request must not find a full disk that nobody has seen yet.
        disk.look().await;
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
        let kinds = Arc::new(Kinds::open(records.clone()).await?);
        tokio::spawn(stop.clone().run_until_cancelled_owned(Arc::clone(&kinds).keep_up()));
        let people = People::open(records.clone(), queues.clone(), settings.people.clone(), &settings.data).await?;
        tokio::spawn(stop.clone().run_until_cancelled_owned(Arc::clone(&people).keep_up()));
        archiver::start(&queues, &records, outbox, &stop).await?;
        let secrets = Secrets::load(&settings.people.secrets, &settings.data)?;
        let of_receipts = Arc::new(Secrets::load(&settings.people.secrets, &settings.data)?);
        let hooks =
            Webhooks::start(records.clone(), queues.clone(), secrets, Arc::clone(&people), outbox, &stop).await?;
        // A cancel by HTTP must move the jobs that wait even if no worker lives.
        let relaying = relay_all(queues.clone(), catalogue().queues());
        tokio::spawn(stop.clone().run_until_cancelled_owned(relaying));
        let (requests, hits) = (Requests::default(), LimitHits::default());
        let Worker { lease, keep_done, keep_failed, .. } = settings.worker;
        let external = External::start(&queues, lease, (keep_done, keep_failed)).await?;
        let keeper = Arc::new(Doorkeeper::new(settings.door.clone(), queues.clone(), hits.clone()));
        let watcher = Watcher::start(queues.clone(), catalogue().queues());
        let streams = sse::Streams::new(settings.streams.per_key, hits.clone());
        let uploads = fourmi_blobs::Uploads::of(&blobs, settings.uploads.expiry);
        tokio::spawn(stop.clone().run_until_cancelled_owned(sweep(blobs.clone(), uploads.clone())));
        let retention =
            Keeper::new(records.clone(), blobs.clone(), uploads.clone(), queues.clone(), settings.keep.clone());
        tokio::spawn(stop.clone().run_until_cancelled_owned(disk.clone().keep_free(retention)));
        let files = Files {
            blobs: blobs.clone(),
            uploads,
            disk: disk.clone(),
            max_upload_bytes: settings.uploads.max_bytes,
            links: Arc::clone(&links),
        };
        let monitor =
            Monitor::new(&requests, &hits, queues.clone(), records.clone(), streams.clone(), settings.data.files());
        let jobs = Arc::new(Jobs {
            queues: queues.clone(),
            records: records.clone(),
            watcher,
            streams: streams.clone(),
            kinds: Arc::clone(&kinds),
            blobs,
            disk: disk.clone(),
            keeper: Arc::clone(&keeper),
            stop: stop.clone(),
        });
        tokio::spawn(stop.clone().run_until_cancelled_owned(keep_erasing(Arc::clone(&jobs), records.clone())));
        let work = Work { external, kinds: Arc::clone(&kinds), lease, streams, stop: stop.clone() };
        let groups = vec![
            jobs::group(Arc::clone(&jobs)),
            files::group(files),
            schedules::group(Arc::clone(&jobs)),
            stats::group(records.clone()),
            providers::group(records.clone()),
            sms::group(Sms { jobs: Arc::clone(&jobs), secrets: of_receipts, accounts: settings.data.secrets() }),
            suppressions::group(Arc::clone(&hooks)),
            webhooks::group(jobs, hooks),
            devices::group(records.clone()),
            kinds::group(kinds),
            insight::group(),
            work::group(Arc::new(work)),
            queues::group(queues.clone()),
            workers::group(queues.clone()),
            auth::group(Arc::clone(&people)),
            users::group(Arc::clone(&people)),
            tenants::group(Arc::clone(&people)),
            key_routes::group(Arc::clone(&keys)),
            audit::group(Arc::clone(&people)),
            health::group(Checkup::new(queues, records, settings.data.files(), disk)),
            metrics::group(monitor),
        ];
        let admission = Admission { keys, people: Some(people), links, keeper: Some(keeper) };
        let tracer = Tracer::start(&settings.traces, "fourmi-api")?;
        let service = service(&admission, &requests, tracer.clone(), groups);
        Ok(Self { tracer, ..Self::of(listener, service, stop) })
    }

    /// A server of a service on a listener.
    pub fn of(listener: TcpListener, service: Service, stop: CancellationToken) -> Self {
        Self { listener, service, stop, tracer: None }
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
        let served = server.try_serve(self.service).await;
        if let Some(tracer) = self.tracer {
            tracer.flush().await;
        }
        Ok(served?)
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
