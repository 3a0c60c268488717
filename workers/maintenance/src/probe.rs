//! `health.probe`: tries out every part that the platform stands on.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use fourmi_blobs::{Expected, Owner};
use fourmi_kinds::{HealthReport, PartHealth, catalogue};
use fourmi_model::{Failure, HealthStatus, QueueName, State};
use fourmi_queue::Figures;
use fourmi_retention::{Reserve, room};
use fourmi_runtime::Context;
use futures_util::stream;
use jiff::Timestamp;
use sysinfo::{MemoryRefreshKind, RefreshKind, System};
use tokio::{io::AsyncReadExt as _, task::spawn_blocking, time::timeout};

use crate::{
    host::memory,
    house::{House, Keys},
};

/// How long a part may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Jobs that wait longer tell of too few workers.
const LONG_WAIT: Duration = Duration::from_secs(5 * 60);

/// A part of memory or disk that is used and leaves little: 95 of a hundred.
const NEARLY_ALL: (u64, u64) = (95, 100);

/// Tries every part; what it finds is its result.
pub(crate) async fn run(keys: Arc<Keys>, context: Context) -> Result<HealthReport, Failure> {
    let house = keys.open(context.settings()).await?;
    let folder = house.settings.data.folder().to_owned();
    let (redis, records, files, disk, memory) = tokio::join!(
        tried("redis", redis(&house)),
        tried("records", records(&house)),
        tried("files", files(&house)),
        tried("disk", disk(&folder, house.reserve)),
        tried("memory", free_memory()),
    );
    let mut parts = vec![redis, records, files, disk, memory];
    for queue in catalogue().queues() {
        parts.push(tried(&format!("queue:{queue}"), wait_of(&house, &queue)).await);
    }
    for part in parts.iter().filter(|part| part.status > HealthStatus::Ok) {
        let detail = part.detail.as_deref().unwrap_or_default();
        tracing::warn!(health.part = %part.name, health.status = %part.status, "{detail}");
    }
    let status = parts.iter().map(|part| part.status).max().unwrap_or(HealthStatus::Ok);
    Ok(HealthReport { status: status.max(HealthStatus::Ok), parts })
}

/// What a trial found: how the part is, and why.
type Found = Result<(HealthStatus, Option<String>), String>;

/// A part that was tried. One that cannot be used, or not in time, is down.
async fn tried(name: &str, trial: impl Future<Output = Found>) -> PartHealth {
    let begun = Instant::now();
    let found = timeout(PATIENCE, trial).await;
    let found = found.unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs())));
    let (status, detail) = found.unwrap_or_else(|error| (HealthStatus::Down, Some(error)));
    let latency_ms = (begun.elapsed().as_secs_f64() * 1e6).round() / 1e3;
    PartHealth { name: name.to_owned(), status, latency_ms: Some(latency_ms), detail }
}

async fn redis(house: &House) -> Found {
    if !house.queues.try_out().await.map_err(words)? {
        return Err("it did not give back what it was given".to_owned());
    }
    let health = house.queues.health().await.map_err(words)?;
    let full = health.max_memory.is_some_and(|most| health.used_memory >= most / 10 * 9);
    let detail = full.then(|| "its memory is nearly full: new jobs are refused".to_owned());
    Ok((if full { HealthStatus::Degraded } else { HealthStatus::Ok }, detail))
}

async fn records(house: &House) -> Found {
    let subject = format!("canary:{:016x}", rand::random::<u64>());
    let records = &house.records;
    records.note_failure(&subject, Timestamp::now(), PATIENCE, |_| Duration::ZERO).await.map_err(words)?;
    let read = records.attempts(&[&subject]).await.map_err(words)?;
    records.forget_attempts(&[&subject]).await.map_err(words)?;
    let is_there = read.first().is_some_and(|attempts| attempts.failures == 1);
    if is_there { Ok((HealthStatus::Ok, None)) } else { Err("they did not give back what they were given".to_owned()) }
}

async fn files(house: &House) -> Found {
    let content = format!("{:016x}", rand::random::<u64>());
    let bytes = stream::iter([Ok(Bytes::from(content.clone()))]);
    let blob = house.blobs.put("canary", Owner::default(), bytes, Expected::default()).await.map_err(words)?;
    let mut read = String::new();
    if let Some((_, mut file)) = house.blobs.reader(&blob.id).await.map_err(words)? {
        file.read_to_string(&mut read).await.map_err(words)?;
    }
    house.blobs.delete(&blob.id).await.map_err(words)?;
    if read == content { Ok((HealthStatus::Ok, None)) } else { Err("a file did not hold what was written".to_owned()) }
}

async fn disk(folder: &Path, reserve: Reserve) -> Found {
    let folder = folder.to_owned();
    let room = spawn_blocking(move || room(&folder)).await.map_err(words)?.map_err(words)?;
    let is_full = room.free < reserve.of(room);
    let is_little = room.all - room.free > room.all / NEARLY_ALL.1 * NEARLY_ALL.0;
    let status = if is_full || is_little { HealthStatus::Degraded } else { HealthStatus::Ok };
    let refused = if is_full { ": new jobs and files are refused" } else { "" };
    Ok((status, Some(format!("{} MiB free{refused}", room.free >> 20))))
}

async fn free_memory() -> Found {
    let kinds = RefreshKind::nothing().with_memory(MemoryRefreshKind::everything());
    let system = spawn_blocking(move || System::new_with_specifics(kinds)).await.map_err(words)?.map_err(words)?;
    let (all, used) = memory(&system);
    let is_little = used > all / NEARLY_ALL.1 * NEARLY_ALL.0;
    let status = if is_little { HealthStatus::Degraded } else { HealthStatus::Ok };
    Ok((status, Some(format!("{} MiB free", (all - used.min(all)) >> 20))))
}

async fn wait_of(house: &House, queue: &QueueName) -> Found {
    let Figures { counts, oldest_waiting, paused, workers, .. } = house.queues.figures(queue).await.map_err(words)?;
    let waiting = counts.0.get(&State::Waiting).copied().unwrap_or_default();
    // The longest wait is of jobs that somebody keeps from starting on purpose, too.
    let status = match (workers.is_empty(), waiting) {
        (true, 0) => HealthStatus::NotConfigured,
        (true, _) => HealthStatus::Degraded,
        (false, _) if oldest_waiting > LONG_WAIT && !paused => HealthStatus::Degraded,
        (false, _) => HealthStatus::Ok,
    };
    let since = format!("{waiting} jobs wait, the oldest for {} s", oldest_waiting.as_secs());
    let detail = if workers.is_empty() { format!("no worker is there; {since}") } else { since };
    Ok((status, (waiting > 0).then_some(detail)))
}

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}
