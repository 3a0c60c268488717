//! What a scaler must know of a queue, and who scales it.

use std::time::Duration;

use fourmi_model::{BusyProcess, QueueName, ScaleBounds, ScaleProcesses, ScaleSignal, ScaleSlots, WorkerInfo};

use crate::{
    QueueError, Queues,
    estimate::{Pace, float},
    queues::milliseconds,
    read::{key, meta_key},
    scripts,
};

/// How long an autoscaler is believed to be there after its last word.
const REMEMBERED: Duration = Duration::from_secs(10);

impl Queues {
    /// What a scaler must know of a queue.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn scale(&self, queue: &QueueName) -> Result<ScaleSignal, QueueError> {
        let (now, counts, autoscale): Answer = self.link().invoke(&scripts::SCALE.key(meta_key(queue))).await?;
        let (waiting, running, pace, started, processes, slots) = counts;
        let count = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok()).unwrap_or(0);
        let (waiting, running, started) = (count(waiting), count(running), count(started));
        let oldest = if waiting > 0 { self.oldest_waiting(queue).await? } else { None };
        let workers = self.workers(queue).await?;
        // A pace is noted by workers: without any, the last one means nothing.
        let pace = if workers.is_empty() { None } else { Pace::read(&pace.unwrap_or_default(), now, started) };
        let per_second = pace.map(Pace::per_second);
        Ok(ScaleSignal {
            queue: queue.clone(),
            waiting,
            running,
            load: waiting.saturating_add(running),
            oldest_waiting_ms: oldest.map(|then| now.saturating_sub(then.as_millisecond().try_into().unwrap_or(0))),
            started,
            starts_per_second: per_second,
            estimated_drain_ms: estimated_drain(waiting, per_second),
            processes: ScaleProcesses { wanted: processes, ..of_workers(&workers) },
            slots: ScaleSlots { wanted: slots, ..slots_of(&workers) },
            autoscale: autoscale.and_then(|text| bounds(&text)),
        })
    }

    /// Says that somebody scales the number of processes of a queue within these bounds; to be repeated, because it is
    /// forgotten after ten seconds.
    ///
    /// # Errors
    /// If Redis does not answer, or keeps this queue in another layout.
    pub async fn set_autoscale(&self, queue: &QueueName, bounds: ScaleBounds) -> Result<(), QueueError> {
        self.link().check_layout(queue).await?;
        let mut command = redis::cmd("SET");
        command.arg(key(queue, "autoscale")).arg(format!("{} {}", bounds.min, bounds.max));
        self.link().query(command.arg("PX").arg(milliseconds(REMEMBERED))).await
    }
}

/// What `scale.lua` answers; see there.
type Answer = (u64, Counts, Option<String>);

/// Waiting, running, pace, starts, processes, slots.
type Counts = (Option<i64>, Option<i64>, Option<String>, Option<i64>, Option<u32>, Option<u32>);

fn estimated_drain(waiting: u64, per_second: Option<f64>) -> Option<u64> {
    let seconds = if waiting == 0 { 0.0 } else { float(waiting) / per_second? };
    Duration::try_from_secs_f64(seconds).ok().map(milliseconds)
}

fn of_workers(workers: &[WorkerInfo]) -> ScaleProcesses {
    let (draining, live): (Vec<_>, Vec<_>) = workers.iter().partition(|worker| worker.draining);
    let busy = workers.iter().filter(|worker| worker.busy > 0);
    ScaleProcesses {
        wanted: None,
        live: number(live.len()),
        draining: number(draining.len()),
        busy: busy.map(|worker| BusyProcess { name: worker.name.clone(), busy: worker.busy }).collect(),
        idle: live.iter().filter(|worker| worker.busy == 0).map(|worker| worker.name.clone()).collect(),
    }
}

fn slots_of(workers: &[WorkerInfo]) -> ScaleSlots {
    let live = workers.iter().filter(|worker| !worker.draining);
    ScaleSlots {
        wanted: None,
        live: live.map(|worker| worker.slots).fold(0, u32::saturating_add),
        busy: workers.iter().map(|worker| worker.busy).fold(0, u32::saturating_add),
    }
}

fn number(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn bounds(text: &str) -> Option<ScaleBounds> {
    let (min, max) = text.split_once(' ')?;
    Some(ScaleBounds { min: min.parse().ok()?, max: max.parse().ok()? })
}
