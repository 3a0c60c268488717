//! Jobs that wait for a secret go on when the operator has put one down.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use fourmi_model::{ParkReason, QueueName};
use fourmi_queue::{QueueError, Queues};
use tokio::time::{MissedTickBehavior, interval};

/// How often the folder of secrets is looked at.
const LOOK: Duration = Duration::from_secs(2);

/// The secrets that there are, and when each was written.
type Secrets = BTreeMap<OsString, SystemTime>;

/// Lets jobs run that are parked as `not_configured` whenever a secret is new or another one; for ever. What is still missing
/// parks them again.
pub(crate) async fn watch(queues: Queues, queue: QueueName, folder: PathBuf) {
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // What was put down while no worker ran counts as new.
    let mut known = Secrets::new();
    loop {
        looks.tick().await;
        let Ok(secrets) = secrets(folder.clone()).await else { continue };
        let is_new = secrets.iter().any(|(name, time)| known.get(name) != Some(time));
        if is_new && let Err(error) = release(&queues, &queue).await {
            tracing::warn!(%error, "jobs that wait for a secret cannot be released; trying again");
            continue;
        }
        known = secrets;
    }
}

async fn release(queues: &Queues, queue: &QueueName) -> Result<(), QueueError> {
    let (mut released, mut cursor) = (0, None);
    loop {
        let step = queues.unpark(queue, ParkReason::NotConfigured, cursor.as_deref()).await?;
        released += step.released;
        cursor = step.next;
        if cursor.is_none() {
            break;
        }
    }
    if released > 0 {
        tracing::info!(jobs = released, "a secret is new: jobs that were not configured run");
    }
    Ok(())
}

async fn secrets(folder: PathBuf) -> io::Result<Secrets> {
    let look = move || {
        let entries = match std::fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Secrets::new()),
            entries => entries?,
        };
        let secret = |entry: io::Result<std::fs::DirEntry>| {
            let entry = entry?;
            Ok((entry.file_name(), entry.metadata()?.modified()?))
        };
        entries.map(secret).collect()
    };
    tokio::task::spawn_blocking(look).await?
}
