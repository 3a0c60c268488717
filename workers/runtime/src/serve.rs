//! The life of a worker process: start, serve, drain.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use apalis_core::worker::{
    builder::WorkerBuilder, context::WorkerContext, event::Event, ext::event_listener::EventListenerExt as _,
};
use fourmi_blobs::Blobs;
use fourmi_model::{InvalidName, QueueName};
use fourmi_queue::{BackendHandle, QueueBackend, QueueError, Queues, Stop, Transitions, WorkerConfig};
use fourmi_settings::{Data, Environment, Logging, Redis, Traces};
use fourmi_telemetry::{logging, metrics::Listener, traces::Tracer};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    Worker, configured,
    dispatch::{Dispatch, House},
    metrics::Metrics,
    rooms::sweep,
    scratch::Scratch,
    watch::Observers,
};

/// After the grace time: how long runs may take to stop and outcomes to be written.
const LAST_MOMENT: Duration = Duration::from_secs(10);

pub(crate) fn main(worker: Worker) -> anyhow::Result<()> {
    let environment = Environment::real();
    logging::init(&Logging::read(&environment)?)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let served = runtime.block_on(traced(worker, &environment));
    // A handler that does not stop must not hold the process.
    runtime.shutdown_background();
    served
}

/// Serves, and sends what was traced before the process ends.
async fn traced(worker: Worker, environment: &Environment) -> anyhow::Result<()> {
    let tracer = Tracer::start(&Traces::read(environment)?, &format!("fourmi-{}", worker.queue))?;
    let served = serve(worker, environment, tracer.clone()).await;
    if let Some(tracer) = tracer {
        tracer.flush().await;
    }
    served
}

async fn serve(worker: Worker, environment: &Environment, tracer: Option<Tracer>) -> anyhow::Result<()> {
    let data = Data::read(environment)?;
    let settings = fourmi_settings::Worker::read(environment)?;
    let redis = Redis::read(environment)?;
    (worker.check)(environment)?;
    let queue: QueueName = worker.queue.parse()?;
    let name = process_name(&queue);
    let listener = Listener::open(&fourmi_settings::Metrics::read(environment)?).await?;

    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut terminations = signal(SignalKind::terminate())?;
    let asked_to_stop = async move || {
        tokio::select! { _ = interrupts.recv() => {}, _ = terminations.recv() => {} }
    };
    tokio::pin!(asked_to_stop);

    let mut config = WorkerConfig::new(&name);
    config.slots = settings.slots.or(worker.slots).unwrap_or(config.slots);
    config.kinds = worker
        .handlers
        .iter()
        .map(|(kind, handler)| Ok((kind.parse()?, handler.schema_version)))
        .collect::<Result<_, InvalidName>>()?;
    config.lease = settings.lease;
    let slots = config.slots;
    config.prefetch = worker.prefetch;
    config.kept = (settings.keep_done, settings.keep_failed);
    let (queues, transitions, backend) = tokio::select! {
        connected = connect(&redis, &queue, &config) => connected?,
        () = asked_to_stop() => return Ok(()),
    };
    let handle = backend.handle();
    let blobs = open_blobs(&data.files()).await?;
    let metrics = listener.is_some().then(|| Arc::new(Metrics::new(&queue, &worker.handlers)));
    let house = House {
        handlers: worker.handlers,
        backend: handle.clone(),
        queues: queues.clone(),
        transitions,
        blobs: blobs.clone(),
        settings: environment.pick(&[worker.settings, Logging::OF_CHILDREN].concat()),
        data: data.clone(),
        scratch: Scratch::open(&data.scratch(), &name).context("the scratch folder cannot be used")?,
        observers: Observers { metrics: metrics.clone(), tracer },
    };
    let mut kinds: Vec<_> = house.handlers.keys().copied().collect();
    kinds.sort_unstable();
    tracing::info!(worker = %name, slots, kinds = %kinds.join(" "), "ready");

    let _showing = match listener.zip(metrics) {
        Some((listener, metrics)) => Some(show(listener, metrics, queues.clone(), handle.clone())?),
        None => None,
    };
    let configured = configured::watch(queues.clone(), queue.clone(), data.secrets());
    let mut beside = vec![AbortOnDropHandle::new(tokio::spawn(configured))];
    beside.extend(
        worker.beside.into_iter().map(|task| AbortOnDropHandle::new(tokio::spawn(task(queues.clone(), queue.clone())))),
    );
    let _sweeping =
        AbortOnDropHandle::new(tokio::spawn(async move { sweep(&data, &queues, &blobs, queue.as_str()).await }));
    let control = WorkerContext::new(&name);
    let begun = CancellationToken::new();
    let working = WorkerBuilder::new(control.clone())
        .backend(backend)
        .on_event({
            let begun = begun.clone();
            move |_, event| {
                if matches!(event, Event::Start) {
                    begun.cancel();
                }
            }
        })
        .build(Dispatch::new(house))
        .run();
    let mut working = tokio::spawn(working);
    // A worker that has not begun refuses to be stopped, and what was fetched for it would wait for its lease to run out.
    begun.cancelled().await;
    let ordered = tokio::select! {
        ended = &mut working => return Ok(ended??),
        () = asked_to_stop() => false,
        () = handle.told_to_drain() => true,
    };
    let drain = drain(&handle, &control, working, settings.drain);
    let asked_again = async {
        if ordered {
            // Who stops a process that drains already asks for nothing else.
            asked_to_stop().await;
            tracing::info!("it ends already; asked once more it stops at once");
        }
        asked_to_stop().await;
    };
    tokio::select! {
        drained = drain => drained,
        () = asked_again => anyhow::bail!("stopped at once; what was running goes back when its lease runs out"),
    }
}

/// Shows the figures of the process until the guard is dropped.
fn show(
    listener: Listener,
    metrics: Arc<Metrics>,
    queues: Queues,
    backend: BackendHandle,
) -> anyhow::Result<AbortOnDropHandle<()>> {
    tracing::info!(address = %listener.address()?, "figures are shown");
    let page = move || {
        let (metrics, queues, backend) = (Arc::clone(&metrics), queues.clone(), backend.clone());
        async move { metrics.page(&queues, &backend).await }
    };
    Ok(AbortOnDropHandle::new(tokio::spawn(listener.serve(page))))
}

/// Lets running jobs end within the grace time, gives the others back, and waits until everything is written.
async fn drain(
    handle: &BackendHandle,
    control: &WorkerContext,
    mut working: tokio::task::JoinHandle<Result<(), apalis_core::error::WorkerError>>,
    grace: Duration,
) -> anyhow::Result<()> {
    handle.stop_fetching();
    control.stop()?;
    tracing::info!(running = handle.held(), grace_s = grace.as_secs(), "draining");
    if let Ok(ended) = timeout(grace, &mut working).await {
        return Ok(ended??);
    }
    tracing::info!(running = handle.held(), "grace time is over; what still runs goes back to its queue");
    handle.stop_all(Stop::Draining);
    match timeout(LAST_MOMENT, working).await {
        Ok(ended) => Ok(ended??),
        Err(_) => anyhow::bail!("some runs could not be given back; they go back when their lease runs out"),
    }
}

/// Waits for Redis as long as it takes; only a Redis that cannot carry queues is an error.
async fn connect(
    redis: &Redis,
    queue: &QueueName,
    config: &WorkerConfig,
) -> anyhow::Result<(Queues, Transitions, QueueBackend)> {
    let mut told = false;
    loop {
        let started = async {
            let queues = Queues::connect_trusting(redis.url.expose(), redis.authorities.as_deref()).await?;
            let transitions = Transitions::of(&queues, queue.clone()).await?;
            // Last, because from then on it fetches.
            let backend = QueueBackend::start(&queues, queue.clone(), config.clone()).await?;
            Ok((queues, transitions, backend))
        };
        match started.await {
            Ok(connected) => return Ok(connected),
            Err(QueueError::Unavailable(error)) => {
                if !told {
                    tracing::warn!(error, "waiting for Redis");
                    told = true;
                }
                sleep(Duration::from_millis(250)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

async fn open_blobs(folder: &Path) -> anyhow::Result<Blobs> {
    Blobs::open(folder).await.context("the folder of stored files cannot be used")
}

/// Unique among the processes that live, also across hosts; without blanks.
fn process_name(queue: &QueueName) -> String {
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    let host: String = host.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(40).collect();
    format!("{queue}.{host}.{}.{:04x}", std::process::id(), rand::random::<u16>())
}
