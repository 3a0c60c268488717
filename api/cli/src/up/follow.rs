//! Following how many processes there shall be, and autoscaling: once a second, by the API, as everybody else would.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use fourmi_client::{Client, ClientError, ScaleChange};
use fourmi_model::{QueueName, ScaleSignal};
use tokio::{
    sync::mpsc::Sender,
    time::{MissedTickBehavior, interval, timeout},
};

use super::{
    autoscale::{Decision, History, Rule, decide},
    scale::{Target, WORKERS, WorkerClass},
};

const EVERY: Duration = Duration::from_secs(1);
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);
/// Failures in a row that are no passing thing.
const SAID_AFTER: u32 = 10;

/// What the supervisor is to do for a class of workers.
pub(crate) struct Order {
    pub(crate) target: Target,
    pub(crate) decision: Option<Decision>,
}

/// Who asks for how many processes there shall be.
pub(crate) struct Follower {
    client: Client,
    began: Instant,
    autoscalers: BTreeMap<&'static str, Autoscaler>,
}

struct Autoscaler {
    rule: Rule,
    history: History,
    /// What it said last: another number is somebody else's.
    said: Option<u32>,
}

impl Follower {
    pub(crate) fn new(client: Client, rules: &[Rule]) -> Self {
        let autoscaler = |rule: &Rule| Autoscaler { rule: rule.clone(), history: History::default(), said: None };
        let autoscalers = rules.iter().map(|rule| (rule.class, autoscaler(rule))).collect();
        Self { client, began: Instant::now(), autoscalers }
    }

    /// How many there shall be at the start: what is said now, else what was said before, else one.
    pub(crate) async fn at_start(&self, class: &WorkerClass, said: Option<u32>) -> Result<u32, ClientError> {
        let queue = queue(class)?;
        let signal = match said {
            Some(processes) => {
                let change = ScaleChange { processes: Some(Some(processes)), ..ScaleChange::default() };
                self.client.set_scale(&queue, &change).await?
            }
            None => self.client.scale(&queue).await?,
        };
        Ok(signal.processes.wanted.unwrap_or(1))
    }

    /// Says once a second what is to be done, for as long as somebody hears it; an error once if it lasts.
    pub(crate) async fn follow(mut self, heard: Sender<Result<Vec<Order>, ClientError>>) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failures = 0;
        loop {
            ticks.tick().await;
            // The API may start again just now: what runs runs on meanwhile.
            let asked = timeout(ANSWERS_WITHIN, self.ask()).await.unwrap_or_else(|_| Err(silent()));
            failures = if asked.is_ok() { 0 } else { failures + 1 };
            if (failures == 0 || failures == SAID_AFTER) && heard.send(asked).await.is_err() {
                return;
            }
        }
    }

    async fn ask(&mut self) -> Result<Vec<Order>, ClientError> {
        let mut orders = Vec::new();
        for class in WORKERS {
            let queue = queue(class)?;
            let now = self.began.elapsed();
            let (signal, decision, patient) = match self.autoscalers.get_mut(class.name) {
                Some(autoscaler) => autoscaler.ask(&self.client, &queue, now).await?,
                None => (self.client.scale(&queue).await?, None, false),
            };
            let processes = signal.processes.wanted.unwrap_or(1);
            let workers = self.client.workers(Some(&queue)).await?;
            orders.push(Order { target: Target { class, processes, patient, workers }, decision });
        }
        Ok(orders)
    }
}

impl Autoscaler {
    /// Says that it is there, decides, and says what it has decided.
    async fn ask(
        &mut self,
        client: &Client,
        queue: &QueueName,
        now: Duration,
    ) -> Result<(ScaleSignal, Option<Decision>, bool), ClientError> {
        let present = ScaleChange { autoscale: Some(self.rule.bounds), ..ScaleChange::default() };
        let mut signal = client.set_scale(queue, &present).await?;
        self.history.note(&self.rule, now, &signal);
        let decision = decide(&self.rule, &self.history, &signal);
        if let Some(Decision { to, .. }) = decision {
            let change = ScaleChange { processes: Some(Some(to)), ..present };
            signal = client.set_scale(queue, &change).await?;
            self.said = Some(to);
        }
        let patient = self.said.is_some() && self.said == signal.processes.wanted;
        Ok((signal, decision, patient))
    }
}

fn silent() -> ClientError {
    ClientError::Unusable(format!("the API does not answer within {} s", ANSWERS_WITHIN.as_secs()))
}

fn queue(class: &WorkerClass) -> Result<QueueName, ClientError> {
    class.name.parse().map_err(|error| ClientError::Unusable(format!("{error}")))
}
