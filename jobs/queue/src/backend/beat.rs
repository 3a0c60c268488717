//! Says every second that this process lives and what it does, and does what it is told then: how many slots it has, and
//! whether it shall end. Depends neither on handlers nor on fetching, and outlives a restart of Redis.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::{Duration, Instant},
};

use fourmi_model::{JobId, MAX_WORKER_JOBS, WorkerInfo};
use jiff::Timestamp;
use tokio::time::{MissedTickBehavior, interval};

use super::{Shared, WorkerConfig};
use crate::QueueError;

const EVERY: Duration = Duration::from_secs(1);

/// A tick of the processor time that the kernel counts: the same on every Linux.
const TICK: Duration = Duration::from_millis(10);

/// What this process says of itself, beat after beat.
pub(super) struct Pulse {
    worker: WorkerInfo,
    /// When the last beat was, and the processor time used until then.
    measured: (Instant, Duration),
}

impl Pulse {
    pub(super) fn new(shared: &Shared, config: &WorkerConfig) -> Self {
        let worker = WorkerInfo {
            name: config.worker.clone(),
            queue: shared.queue().clone(),
            host: std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            kinds: config.kinds.clone(),
            slots: 0,
            busy: 0,
            jobs: Vec::new(),
            memory_bytes: 0,
            cpu_percent: 0.0,
            started_at: Timestamp::now(),
            last_seen: Timestamp::UNIX_EPOCH,
            draining: false,
        };
        Self { worker, measured: (Instant::now(), processor_time()) }
    }

    /// One beat.
    pub(super) async fn beat(&mut self, shared: &Shared) -> Result<(), QueueError> {
        self.look(shared);
        let orders = shared.transitions.beat(&self.worker).await?;
        shared.give_slots(orders.slots as usize);
        if orders.drain {
            shared.told_to_drain.cancel();
        }
        Ok(())
    }

    fn look(&mut self, shared: &Shared) {
        let mut held: Vec<_> = shared.held_runs().into_iter().map(|run| run.job).collect();
        held.sort_unstable();
        held.truncate(MAX_WORKER_JOBS);
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        self.worker.slots = count(shared.own_slots.load(SeqCst));
        self.worker.busy = count(shared.busy.load(SeqCst));
        self.worker.jobs = held.into_iter().map(|job| JobId::from_parts(shared.queue().clone(), job)).collect();
        self.worker.draining = shared.draining.is_cancelled();
        self.worker.memory_bytes = resident_memory();

        let (now, used) = (Instant::now(), processor_time());
        let (before, used_before) = std::mem::replace(&mut self.measured, (now, used));
        let passed = now.duration_since(before).max(TICK).as_secs_f32();
        self.worker.cpu_percent = 100.0 * used.saturating_sub(used_before).as_secs_f32() / passed;
    }
}

/// Beats until everything is settled after a drain, then says that this process has gone.
pub(super) async fn run(shared: Arc<Shared>, mut pulse: Pulse) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failed = false;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shared.beat_now.notified() => {}
            () = shared.settled.cancelled() => break,
        }
        match pulse.beat(&shared).await {
            Ok(()) => failed = false,
            Err(error) if !failed => {
                failed = true;
                tracing::warn!(queue = %shared.queue(), %error, "this worker cannot say that it lives; trying again until it can");
            }
            Err(_) => {}
        }
    }
    if let Err(error) = shared.transitions.leave(&shared.worker).await {
        tracing::debug!(queue = %shared.queue(), %error, "this worker is listed until its silence is noticed");
    }
}

/// The processor time that this process has used, without child processes; zero where that cannot be told.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program, in brackets, may hold blanks. After it: state, …, the 12th and 13th are the ticks.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace().skip(11).take(2);
    TICK * fields.filter_map(|field| field.parse::<u32>().ok()).fold(0, u32::saturating_add)
}

/// Bytes of memory that this process has; zero where that cannot be told.
fn resident_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = resident.and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1_024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_its_memory_and_its_processor_time() {
        assert!(resident_memory() > 100_000);
        let before = processor_time();
        let started = Instant::now();
        while processor_time() == before {
            assert!(started.elapsed() < Duration::from_secs(60), "work takes processor time");
        }
    }
}
