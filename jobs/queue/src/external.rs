//! External jobs: those that workers of other systems lease, who are no processes of ours.
//!
//! They move by the same scripts as all others. What the loops of a worker process do for its queue beside running jobs
//! is done here for all of them: keeping house, and telling those who wait that there is something for them.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use fourmi_model::{Envelope, JobId, KindName, Progress, QueueName, Retention, State, TenantName};
use redis::Value;
use tokio::{
    sync::Notify,
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use crate::{
    Claim, Orders, QueueError, Queues, Transitions,
    queues::{STEP, milliseconds, state},
    read::{number, text},
    registry::SILENCE,
    scripts,
    subscription::{Signal, subscribe},
};

/// How often to keep house.
const EVERY: Duration = Duration::from_secs(1);

/// Envelopes that one call reads at most: they may have 64 KiB each.
const ENVELOPES: usize = 100;

/// The external jobs; cheap to clone. House is kept until the last clone is gone.
#[derive(Clone)]
pub struct External {
    transitions: Transitions,
    bells: Arc<Bells>,
    _tasks: Arc<[AbortOnDropHandle<()>; 2]>,
}

impl External {
    /// Keeps house from now on; any number of processes may. After a gap in that, every lease gets at least `lease` more
    /// time. Of finished jobs, `kept` are kept at most: succeeded and cancelled ones, failed ones.
    ///
    /// # Errors
    /// If Redis does not answer now or keeps the queue in another layout.
    pub async fn start(queues: &Queues, lease: Duration, kept: (u64, u64)) -> Result<Self, QueueError> {
        let transitions = Transitions::of(queues, QueueName::external()).await?;
        let (bells, look) = (Arc::new(Bells::default()), Arc::new(Notify::new()));
        let house = tokio::spawn(keep_house(transitions.clone(), lease, kept, Arc::clone(&look)));
        let ears = tokio::spawn(listen(transitions.clone(), Arc::clone(&bells), look));
        Ok(Self { transitions, bells, _tasks: Arc::new([house, ears].map(AbortOnDropHandle::new)) })
    }

    /// What runs do beside being leased: renewals, progress, lines of the log, outcomes.
    pub fn transitions(&self) -> &Transitions {
        &self.transitions
    }

    /// Hears of jobs of these kinds and this tenant (or of none) that wait from now on.
    pub fn listen<'a>(&self, tenant: Option<&TenantName>, kinds: impl IntoIterator<Item = &'a KindName>) -> Listener {
        let owners = kinds.into_iter().map(|kind| owner(tenant, kind)).collect();
        let listener = Listener { bells: Arc::clone(&self.bells), owners, heard: Arc::default() };
        let mut bells = self.bells.lock();
        for owner in &listener.owners {
            bells.entry(owner.clone()).or_default().push(Arc::clone(&listener.heard));
        }
        listener
    }

    /// Takes up to `want` (at most 1,000) jobs of those that the listener hears of. A suspect comes alone.
    ///
    /// # Errors
    /// If Redis does not answer; what it had handed out then goes back when the lease runs out.
    pub async fn fetch(
        &self,
        worker: &WorkerName,
        listener: &Listener,
        want: usize,
        lease: Duration,
    ) -> Result<Vec<Claim>, QueueError> {
        // Who is named first is served first: it is another one each time.
        let mut owners = listener.owners.clone();
        let first = if owners.is_empty() { 0 } else { rand::random_range(0..owners.len()) };
        owners.rotate_left(first);
        Ok(self.transitions.fetch_of(&worker.0, want, lease, true, &owners).await?.claims)
    }

    /// Says that a worker lives and what it may and does run; what is `None` is as it has said before. One that is silent
    /// for 15 seconds is forgotten.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn beat(&self, worker: &WorkerName, pulse: Pulse<'_>) -> Result<Orders, QueueError> {
        let mut call = self.transitions.call(&scripts::BEAT);
        call.arg(&worker.0).arg(milliseconds(SILENCE));
        match pulse.slots {
            Some(slots) => call.arg(slots),
            None => call.arg(""),
        };
        call.arg(0);
        if let Some(kinds) = pulse.kinds {
            let kinds: Vec<String> = kinds.iter().map(|(kind, version)| format!("{kind}:{version}")).collect();
            call.arg("kinds").arg(kinds.join(" "));
        }
        call.arg("busy").arg(pulse.busy);
        let (slots, drain): (u32, u8) = self.transitions.link().invoke(&call).await?;
        Ok(Orders { slots, drain: drain == 1 })
    }

    /// How things stand with these runs, in order; `None` where there is no such job.
    ///
    /// # Errors
    /// If Redis does not answer, or an envelope cannot be read.
    pub async fn standings(&self, runs: &[(Uuid, Detail)]) -> Result<Vec<Option<Standing>>, QueueError> {
        let mut standings = Vec::with_capacity(runs.len());
        for runs in runs.chunks(ENVELOPES) {
            let mut call = self.transitions.call(&scripts::STANDING);
            for (job, detail) in runs {
                call.arg(job.hyphenated().to_string()).arg(detail.key());
            }
            let answers: Vec<Vec<Value>> = self.transitions.link().invoke(&call).await?;
            for ((job, detail), answer) in runs.iter().zip(answers) {
                standings.push(Standing::read(*job, *detail, &answer)?);
            }
        }
        Ok(standings)
    }
}

/// How the registry of workers knows an external one: by its own name, and the tenant to whom it belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerName(String);

impl WorkerName {
    /// A worker of a tenant, or of none. The name is 1 to 64 letters, digits, `.`, `_` and `-`; `None` if it is not.
    pub fn new(name: &str, tenant: Option<&TenantName>) -> Option<Self> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if name.is_empty() || name.len() > 64 || !name.chars().all(fits) {
            return None;
        }
        Some(Self(tenant.map_or_else(|| name.to_owned(), |tenant| format!("{name}@{tenant}"))))
    }

    /// Whether a worker of this name in the registry may run jobs of this tenant, or of none.
    pub(crate) fn is_of(name: &str, tenant: Option<&TenantName>) -> bool {
        name.split_once('@').map(|(_, of)| of) == tenant.map(TenantName::as_str)
    }
}

impl fmt::Display for WorkerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What an external worker says of itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pulse<'a> {
    /// Jobs that it may run at the same time.
    pub slots: Option<u32>,
    /// The kinds that it can run, each with the newest version of the payload's schema that it reads.
    pub kinds: Option<&'a BTreeMap<KindName, u32>>,
    /// Jobs that it runs now.
    pub busy: u32,
}

/// What is wanted of a run beside how it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Nothing.
    None,
    /// The part of its job that never changes.
    Envelope,
    /// How far it is.
    Progress,
}

impl Detail {
    fn key(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Envelope => "b",
            Self::Progress => "p",
        }
    }
}

/// How things stand with a job, for whoever says that they run it.
#[derive(Debug)]
pub struct Standing {
    /// The state.
    pub state: State,
    /// The number of its newest run.
    pub run: u64,
    /// Whose it is.
    pub tenant: Option<TenantName>,
    /// Runs that count against the retry budget.
    pub attempts: u32,
    /// Runs that took their worker down.
    pub crashes: u32,
    /// Whether a caller asked to stop it.
    pub stop_requested: bool,
    /// How long to keep it when it is over.
    pub retention: Retention,
    /// How long the newest run has gone on.
    pub lasted: Duration,
    /// The part that never changes, if it was wanted.
    pub envelope: Option<Envelope>,
    /// How far it is, if that was wanted and its newest run has said so.
    pub progress: Option<Progress>,
}

impl Standing {
    fn read(job: Uuid, detail: Detail, answer: &[Value]) -> Result<Option<Self>, QueueError> {
        let cell = |at: usize| answer.get(at).unwrap_or(&Value::Nil);
        let Some(state) = state(text(cell(0)))? else { return Ok(None) };
        let count = |at: usize| u32::try_from(number(cell(at)).max(0)).unwrap_or(u32::MAX);
        let time = |at: usize| u64::try_from(number(cell(at))).map_or(Duration::ZERO, Duration::from_millis);
        let keep = |at: usize, default| if *cell(at) == Value::Nil { default } else { time(at) };
        let run = number(cell(1)).max(0).unsigned_abs();
        let usual = Retention::default();
        let envelope = match detail {
            Detail::Envelope => Some(serde_json::from_str(text(cell(9))).map_err(|error| {
                QueueError::Corrupt(format!(
                    "the envelope of {}: {error}",
                    JobId::from_parts(QueueName::external(), job)
                ))
            })?),
            Detail::None | Detail::Progress => None,
        };
        let progress = match (detail, text(cell(9)).split_once(' ')) {
            // Of an earlier run it says nothing about this one.
            (Detail::Progress, Some((of, json))) if of.parse() == Ok(run) => serde_json::from_str(json).ok(),
            _ => None,
        };
        Ok(Some(Self {
            state,
            run,
            // What is there was checked when it was accepted.
            tenant: text(cell(2)).parse().ok(),
            attempts: count(3),
            crashes: count(4),
            stop_requested: *cell(5) != Value::Nil,
            retention: Retention { done: keep(6, usual.done), failed: keep(7, usual.failed) },
            lasted: time(8),
            envelope,
            progress,
        }))
    }
}

/// Whose turns the lanes of such jobs take part in (see lanes.lua).
fn owner(tenant: Option<&TenantName>, kind: &KindName) -> String {
    format!("{} kind/{kind}", tenant.map_or("", TenantName::as_str))
}

/// Those who wait for jobs, by whose they wait for.
#[derive(Default)]
struct Bells(Mutex<HashMap<String, Vec<Arc<Notify>>>>);

impl Bells {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Vec<Arc<Notify>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self, owner: &str) {
        self.lock().get(owner).into_iter().flatten().for_each(|heard| heard.notify_one());
    }

    fn ring_all(&self) {
        self.lock().values().flatten().for_each(|heard| heard.notify_one());
    }
}

/// Hears of jobs that wait.
pub struct Listener {
    bells: Arc<Bells>,
    owners: Vec<String>,
    heard: Arc<Notify>,
}

impl Listener {
    /// Waits until there may be something to fetch that was not there before. What is missed while Redis is away, or freed
    /// by somebody else's change, is not heard: look now and then.
    pub async fn heard(&self) {
        self.heard.notified().await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut bells = self.bells.lock();
        for owner in &self.owners {
            let Some(waiting) = bells.get_mut(owner) else { continue };
            waiting.retain(|other| !Arc::ptr_eq(other, &self.heard));
            if waiting.is_empty() {
                bells.remove(owner);
            }
        }
    }
}

/// Passes on who has something to fetch.
async fn listen(transitions: Transitions, bells: Arc<Bells>, look: Arc<Notify>) {
    let name = |channel: &str| format!("{{{}}}:{channel}", transitions.queue());
    let (wake, control) = (name("wake"), name("ctl"));
    let mut signals = subscribe(transitions.link().clone(), vec![wake.clone(), control]);
    while let Some(signal) = signals.recv().await {
        match signal {
            Signal::Subscribed => {
                look.notify_one();
                bells.ring_all();
            }
            Signal::Message(channel, owners) if channel == wake => {
                for owner in owners.split('\n') {
                    if owner.is_empty() { look.notify_one() } else { bells.ring(owner) }
                }
            }
            // A worker that waits hears of its orders when it looks.
            Signal::Message(_, order) if order == "beat" || order.starts_with("drain ") => bells.ring_all(),
            Signal::Message(..) => {}
        }
    }
}

/// Keeps house every second, and lets jobs run when they are due.
async fn keep_house(transitions: Transitions, lease: Duration, kept: (u64, u64), look: Arc<Notify>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut next_due = None;
    loop {
        let pause: Duration = next_due.unwrap_or(EVERY);
        let kept_house = tokio::select! {
            _ = ticks.tick() => transitions.keep_house(lease, kept).await,
            () = look.notified() => Ok(()),
            () = sleep(pause.max(Duration::from_millis(1))) => Ok(()),
        };
        let promoted = match kept_house {
            Ok(()) => transitions.promote_due(STEP).await,
            Err(error) => Err(error),
        };
        next_due = promoted.map(|(_, due)| due).unwrap_or_else(|error| {
            tracing::debug!(queue = %transitions.queue(), %error, "housekeeping has to wait");
            None
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scripts_know_the_queue_by_its_name() {
        let library = include_str!("lua/lib.lua");
        assert!(library.contains(&format!("meta == '{}'", crate::read::meta_key(&QueueName::external()))));
    }

    #[test]
    fn a_worker_is_of_one_tenant() {
        let acme: TenantName = "acme".parse().unwrap();
        let name = WorkerName::new("w-1", Some(&acme)).unwrap().to_string();
        assert_eq!(name, "w-1@acme");
        assert!(WorkerName::is_of(&name, Some(&acme)) && !WorkerName::is_of(&name, None));
        let plain = WorkerName::new("w-1", None).unwrap().to_string();
        assert!(WorkerName::is_of(&plain, None) && !WorkerName::is_of(&plain, Some(&acme)));
        let long = "w".repeat(65);
        for wrong in ["", "a b", "a@b", "é", "a/b", long.as_str()] {
            assert_eq!(WorkerName::new(wrong, None), None, "{wrong}");
        }
    }
}
