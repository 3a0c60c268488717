//! Ten thousand streams that are open at the same time, a thousand events a second, each of which one of them receives.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use fourmi_model::{JobId, Submission};
use fourmi_queue::{Claim, Outcome, Queues, Settlement, Transitions};
use serde_json::value::RawValue;
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};

use crate::{
    EventReader, Platform,
    bench::{
        Figure, Goal, Report, quantile,
        queue::{monotonic_ns, resident},
    },
    eventually_async,
};

/// Open streams, each of a job of its own.
const STREAMS: usize = 10_000;

/// Streams that are opened at a time.
const OPENING: usize = 200;

/// Events that are published together, every ten milliseconds: a thousand a second.
const TOGETHER: usize = 10;
const EVERY: Duration = Duration::from_millis(10);

/// How long a stream waits for the end of its job once all have ended.
const PATIENCE: Duration = Duration::from_secs(20);

/// Measurements; figures are their medians.
const ROUNDS: usize = 3;

const LONG: Duration = Duration::from_secs(3_600);

/// Adds the figures.
pub(super) async fn run(report: &mut Report) {
    allow_many_files();
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        rounds.push(Round::measure().await);
    }
    let of = |value: fn(&Round) -> f64| rounds.iter().map(value).collect::<Vec<_>>();
    report.add(&Figure::of("sse_streams", "", Goal::AtLeast(STREAMS as f64), &of(|round| round.streams)));
    report.add(&Figure::of("sse_rss_mib", "MiB", Goal::AtMost(400.0), &of(|round| round.rss_mib)));
    report.add(&Figure::of("sse_delivery_p99_ms", "ms", Goal::AtMost(100.0), &of(|round| round.p99_ms)));
    report.add(&Figure::of("sse_terminal_missed", "", Goal::AtMost(0.0), &of(|round| round.missed)));
}

struct Round {
    streams: f64,
    rss_mib: f64,
    p99_ms: f64,
    missed: f64,
}

impl Round {
    async fn measure() -> Self {
        let limits = [("FOURMI_RATE_LIMITS", "stream=off,any=off"), ("FOURMI_STREAMS_PER_KEY", "20000")];
        let platform = Platform::with(&limits, 0).await;
        let queues = Queues::connect(&platform.redis.url()).await.unwrap();
        let transitions = Transitions::of(&queues, "media".parse().unwrap()).await.unwrap();
        let claims = running_jobs(&queues, &transitions).await;

        let open = Arc::new(AtomicUsize::new(0));
        let mut readers = open_all(&platform, &claims, &open).await;
        let streams = eventually_async("all streams are open", async || {
            let open = open.load(Relaxed);
            (open == STREAMS).then_some(open)
        })
        .await;
        let at_rest = resident(platform.api.pid());
        // First every job comes further, then every job ends.
        paced(&claims, async |claims| {
            let news: Vec<_> = claims.iter().map(|claim| (claim.key(), far())).collect();
            transitions.progress(&news).await.unwrap();
        })
        .await;
        paced(&claims, async |claims| {
            let settlements: Vec<_> =
                claims.iter().map(|claim| Settlement { run: claim.key(), outcome: end() }).collect();
            transitions.settle(&settlements).await.unwrap();
        })
        .await;
        let (mut latencies, mut ended) = (Vec::with_capacity(2 * STREAMS), 0);
        let rss_mib = at_rest.max(resident(platform.api.pid()));
        let _gives_up = timeout(PATIENCE, async {
            while let Some(read) = readers.join_next().await {
                let (more, end) = read.unwrap();
                latencies.extend(more);
                ended += usize::from(end);
            }
        })
        .await;
        latencies.sort_by(f64::total_cmp);
        Self { streams: streams as f64, rss_mib, p99_ms: quantile(&latencies, 0.99), missed: (STREAMS - ended) as f64 }
    }
}

/// Jobs that run.
async fn running_jobs(queues: &Queues, transitions: &Transitions) -> Vec<Claim> {
    let queue = transitions.queue();
    let job = || {
        let payload = RawValue::from_string(r#"{"source":{"url":"https://example.org/a.mp3"}}"#.to_owned()).unwrap();
        (JobId::new(queue.clone()), Submission::new("media.probe".parse().unwrap(), payload))
    };
    let jobs: Vec<_> = (0..STREAMS).map(|_| job()).collect();
    queues.push_many(queue, &jobs).await.unwrap();
    let mut claims = Vec::new();
    while claims.len() < STREAMS {
        claims.extend(transitions.fetch("bench", 1_000, LONG, false).await.unwrap().claims);
    }
    claims
}

/// Opens a stream of each job; `open` counts those that have their snapshot.
async fn open_all(platform: &Platform, claims: &[Claim], open: &Arc<AtomicUsize>) -> JoinSet<(Vec<f64>, bool)> {
    let mut readers = JoinSet::new();
    for claims in claims.chunks(OPENING) {
        let mut opening = JoinSet::new();
        for claim in claims {
            let path = format!("/jobs/{}/events", claim.id);
            let (url, key) = (platform.url().to_owned(), platform.key().to_owned());
            opening.spawn(async move { EventReader::open(&url, &path, &key, None).await.unwrap() });
        }
        while let Some(reader) = opening.join_next().await {
            let reader = reader.unwrap();
            assert_eq!(reader.status, 200);
            readers.spawn(read(reader, open.clone()));
        }
    }
    readers
}

/// Reads a stream to its end: how long each event took, in milliseconds, and whether the end of the job was told.
async fn read(mut reader: EventReader, open: Arc<AtomicUsize>) -> (Vec<f64>, bool) {
    let (mut latencies, mut ended) = (Vec::new(), false);
    while let Some(block) = reader.next().await {
        let now = monotonic_ns();
        match block.name.as_str() {
            "snapshot" => {
                open.fetch_add(1, Relaxed);
            }
            "state" => ended |= block.data.contains(r#""state":"succeeded""#),
            _ => {}
        }
        // The document of a job that is over has its last progress too.
        let sent = block.data.rsplit_once(r#""sent_us":"#);
        let sent = sent.and_then(|(_, rest)| rest.split(['.', ',', '}']).next()?.parse::<u64>().ok());
        latencies.extend(sent.map(|sent| (now / 1_000).saturating_sub(sent) as f64 / 1e3));
    }
    (latencies, ended)
}

/// Does something for every job, a thousand a second.
async fn paced(claims: &[Claim], mut step: impl AsyncFnMut(&[Claim])) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for claims in claims.chunks(TOGETHER) {
        ticks.tick().await;
        step(claims).await;
    }
}

fn far() -> String {
    format!(r#"{{"stage":"encode","percent":50,"counters":{{"sent_us":{}}}}}"#, monotonic_ns() / 1_000)
}

fn end() -> Outcome {
    Outcome::Succeeded { result: format!(r#"{{"sent_us":{}}}"#, monotonic_ns() / 1_000), keep: LONG }
}

/// Each stream is a socket here too.
fn allow_many_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    assert!(most as usize > STREAMS + 1_000, "at most {most} files may be open (ulimit -Hn)");
}
