//! `fourmi scale`: how many worker processes and slots queues have, and shall have.

use std::{
    str::FromStr,
    time::{Duration, Instant},
};

use clap::Args;
use fourmi_client::{Client, ScaleChange};
use fourmi_model::{MAX_PROCESSES, QueueName, ScaleSignal};
use serde_json::json;
use tokio::time::sleep;

use crate::{
    exit::{Exit, Stop},
    print::{self, Table},
    session::{Session, unless_interrupted},
    up::scale::class,
};

/// A worker starts within a second or two; one that has not after this will not.
const PATIENCE: Duration = Duration::from_secs(60);

const EXAMPLES: &str = "\
Examples:
  fourmi scale                        all queues
  fourmi scale media=3                three processes of the media worker
  fourmi scale media=3,vision=2 --wait
  fourmi scale media --slots 8        eight jobs at a time, over all its processes

`fourmi up` starts and stops the processes, idle ones first; the number is kept over its restarts.";

/// What to scale.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ScaleArguments {
    /// Queues, each with its number of processes if that is to change; all without
    #[arg(value_name = "QUEUE[=N]", value_delimiter = ',')]
    queues: Vec<Wanted>,
    /// Slots of all processes of the queue together, shared out among them, or none: each has its own number
    #[arg(long, value_name = "N|none", value_parser = number_or_none, requires = "queues")]
    slots: Option<Slots>,
    /// Wait until it is in force, for a minute at most
    #[arg(long)]
    wait: bool,
}

/// `media` or `media=3`.
#[derive(Debug, Clone)]
struct Wanted {
    queue: QueueName,
    processes: Option<u32>,
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (queue, processes) = text.split_once('=').map_or((text, None), |(queue, number)| (queue, Some(number)));
        let queue = queue.parse().map_err(|error| format!("{error}"))?;
        let number = |text: &str| {
            let number = text.parse().ok().filter(|number| *number <= MAX_PROCESSES);
            number
                .ok_or_else(|| format!("it should be a number of processes from 0 to {MAX_PROCESSES}, such as media=3"))
        };
        Ok(Self { queue, processes: processes.map(number).transpose()? })
    }
}

/// A number, or none.
#[derive(Debug, Clone, Copy)]
struct Slots(Option<u32>);

fn number_or_none(text: &str) -> Result<Slots, String> {
    match text {
        "none" => Ok(Slots(None)),
        number => number.parse().map(|number| Slots(Some(number))).map_err(|_| "say a number, or none".to_owned()),
    }
}

pub(crate) async fn run(session: &Session, arguments: ScaleArguments) -> anyhow::Result<Exit> {
    let ScaleArguments { queues, slots, wait } = arguments;
    if slots.is_some() && queues.len() > 1 {
        return Err(Stop::usage("--slots is for one queue"));
    }
    let client = session.client()?;
    let mut signals = Vec::new();
    for wanted in wanted(&client, queues).await? {
        let change = ScaleChange {
            processes: wanted.processes.map(Some),
            slots: slots.map(|Slots(slots)| slots),
            ..ScaleChange::default()
        };
        let signal = client.set_scale(&wanted.queue, &change).await?;
        if let (Some(bounds), Some(_)) = (signal.autoscale, wanted.processes) {
            let queue = &wanted.queue;
            session.note(&format!("{queue} is autoscaled: that goes on from here, with {bounds} processes."));
        }
        signals.push(signal);
    }
    if wait {
        match unless_interrupted(until_in_force(session, &client, &mut signals)).await? {
            Some(in_force) => in_force?,
            None => return Err(Stop::interrupted("not waited for; the numbers are set")),
        }
    }
    if session.json() {
        print::json(&json!({"queues": signals}))?;
    } else {
        print_table(&signals)?;
    }
    Ok(Exit::Done)
}

async fn wanted(client: &Client, named: Vec<Wanted>) -> anyhow::Result<Vec<Wanted>> {
    if !named.is_empty() {
        return Ok(named);
    }
    let all = client.queues().await?.into_iter();
    Ok(all.map(|document| Wanted { queue: document.name, processes: None }).collect())
}

/// Asks until every queue has what it shall have.
async fn until_in_force(session: &Session, client: &Client, signals: &mut [ScaleSignal]) -> anyhow::Result<()> {
    let (progress, started) = (session.progress(), Instant::now());
    for signal in signals {
        while !in_force(signal) {
            let ScaleSignal { queue, processes, .. } = &*signal;
            let missing = format!("{} of {} processes live", processes.live, shall_have(signal));
            if started.elapsed() > PATIENCE {
                progress.clear();
                let message =
                    format!("{queue}: {missing}; the number is set, and `fourmi up` follows it where it runs");
                return Err(Stop::failed("not_in_force", message));
            }
            progress.wait(queue.as_str(), &missing);
            sleep(Duration::from_millis(200)).await;
            *signal = client.scale(&signal.queue).await?;
        }
    }
    progress.clear();
    Ok(())
}

/// Where nobody has said a number, `fourmi up` starts one process of each class of workers that it knows.
fn shall_have(signal: &ScaleSignal) -> u32 {
    let unsaid = u32::from(class(signal.queue.as_str()).is_ok());
    signal.processes.wanted.unwrap_or(unsaid)
}

fn in_force(signal: &ScaleSignal) -> bool {
    let slots = signal.slots.wanted.is_none_or(|slots| signal.slots.live == slots || signal.processes.live == 0);
    signal.processes.live == shall_have(signal) && slots
}

fn print_table(signals: &[ScaleSignal]) -> anyhow::Result<()> {
    let head = ["QUEUE", "PROCESSES", "BUSY", "IDLE", "SLOTS", "WAITING", "RUNNING", "OLDEST", "DRAINED IN", "NOTE"];
    let mut table = Table::new(&head);
    let rough = |ms: Option<u64>| ms.map_or_else(|| "-".to_owned(), |ms| print::rough(Duration::from_millis(ms)));
    for signal in signals {
        let ScaleSignal { processes, slots, .. } = signal;
        table.row(vec![
            signal.queue.to_string(),
            format!("{}/{}", processes.live, shall_have(signal)),
            processes.busy.len().to_string(),
            processes.idle.len().to_string(),
            format!("{}/{}", slots.busy, slots.live),
            signal.waiting.to_string(),
            signal.running.to_string(),
            rough(signal.oldest_waiting_ms),
            rough(signal.estimated_drain_ms),
            note(signal),
        ]);
    }
    table.print()
}

fn note(signal: &ScaleSignal) -> String {
    let draining = (signal.processes.draining > 0).then(|| format!("{} draining", signal.processes.draining));
    let slots = signal.slots.wanted.map(|slots| format!("{slots} slots shared out"));
    let autoscale = signal.autoscale.map(|bounds| format!("autoscaled {bounds}"));
    [draining, slots, autoscale].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_named_with_its_number_or_without() {
        let read = |text: &str| text.parse::<Wanted>().map(|wanted| (wanted.queue.to_string(), wanted.processes));
        assert_eq!(read("media"), Ok(("media".to_owned(), None)));
        assert_eq!(read("media=0"), Ok(("media".to_owned(), Some(0))));
        for wrong in ["", "=3", "media=", "media=65", "media=-1", "me dia=1"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
