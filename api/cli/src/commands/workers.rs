//! `fourmi workers`, `drain`: the worker processes.

use clap::Args;
use fourmi_model::{QueueName, WorkerInfo};
use jiff::Timestamp;
use serde_json::json;

use crate::{
    exit::{Exit, Stop},
    print::{self, Table},
    session::Session,
};

/// Jobs that a line names; the rest is counted.
const NAMED: usize = 2;

/// Which worker processes.
#[derive(Debug, Args)]
pub(crate) struct WorkersArguments {
    /// Only those of this queue
    #[arg(long, value_name = "QUEUE")]
    queue: Option<QueueName>,
}

/// Which worker process.
#[derive(Debug, Args)]
pub(crate) struct OneWorker {
    /// Name of the process, as `fourmi workers` shows it
    worker: String,
}

pub(crate) async fn list(session: &Session, arguments: WorkersArguments) -> anyhow::Result<Exit> {
    let workers = session.client()?.workers(arguments.queue.as_ref()).await?;
    if session.json() {
        print::json(&json!({"workers": workers}))?;
    } else {
        print_table(&workers)?;
    }
    Ok(Exit::Done)
}

fn print_table(workers: &[WorkerInfo]) -> anyhow::Result<()> {
    if workers.is_empty() {
        return print::line("No workers.");
    }
    let mut table = Table::new(&["WORKER", "QUEUE", "VERSION", "BUSY", "MEMORY", "CPU", "UP", "JOBS"]);
    for worker in workers {
        table.row(vec![
            worker.name.clone(),
            worker.queue.to_string(),
            worker.version.clone(),
            format!("{}/{}", worker.busy, worker.slots),
            print::bytes(worker.memory_bytes),
            format!("{:.0} %", worker.cpu_percent),
            print::rough(print::between(worker.started_at, Timestamp::now())),
            doing(worker),
        ]);
    }
    table.print()
}

fn doing(worker: &WorkerInfo) -> String {
    let mut words: Vec<_> = worker.draining.then(|| "draining".to_owned()).into_iter().collect();
    words.extend(worker.jobs.iter().take(NAMED).map(ToString::to_string));
    words.extend(worker.jobs.len().checked_sub(NAMED).filter(|more| *more > 0).map(|more| format!("{more} more")));
    words.join(", ")
}

pub(crate) async fn drain(session: &Session, arguments: OneWorker) -> anyhow::Result<Exit> {
    let client = session.client()?;
    let workers = client.workers(None).await?;
    let Some(worker) = workers.into_iter().find(|worker| worker.name == arguments.worker) else {
        return Err(Stop::usage(format!(
            "no worker process is called {}; `fourmi workers` lists them",
            arguments.worker
        )));
    };
    client.drain(&worker.queue, &worker.name).await?;
    if session.json() {
        print::json(&json!({"worker": worker.name, "queue": worker.queue, "draining": true}))?;
    } else {
        print::line(&format!("{} starts no more jobs, and ends when those that it runs have.", worker.name))?;
    }
    Ok(Exit::Done)
}
