//! Processes that are kept running.
//!
//! Each has a task of its own that starts it, passes on what it writes, starts it again after it ended, and stops it
//! when it is told to. A child is ended by the kernel if the supervisor dies (`PR_SET_PDEATHSIG`), and is the leader of
//! a process group, so that Ctrl-C in a terminal reaches the supervisor alone, which then stops things in order.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::File,
    io,
    os::fd::{AsRawFd, BorrowedFd},
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    sys::{prctl, signal::Signal},
    unistd::{Pid, getpid, getppid},
};
use tokio::{
    process::Command,
    sync::{mpsc::UnboundedSender, watch},
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};

use super::output::Output;
use crate::print;

const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A child that has run for this long was healthy: its next failure is its first.
const HEALTHY: Duration = Duration::from_secs(30);

/// What to start.
#[derive(Debug)]
pub(crate) struct Spec {
    /// Its name in the log: `media.1`.
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    /// Added to the supervisor's own environment.
    pub(crate) environment: Vec<(&'static str, OsString)>,
    /// Taken out of it.
    pub(crate) withheld: &'static [&'static str],
    /// What the kernel sends it when the supervisor dies.
    pub(crate) on_orphaned: Signal,
    /// How long it may take to stop.
    pub(crate) grace: Duration,
    /// Whether others may ask it to end, for a fresh one to take its place: then a good end is no failure.
    pub(crate) renewable: bool,
}

/// What a child is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Run,
    /// Finish what is under way, then end.
    Stop,
    /// End at once.
    Kill,
}

/// Something that happened to a child.
#[derive(Debug)]
pub(crate) enum Event {
    Started {
        name: String,
        pid: u32,
    },
    /// It ended, or could not be started, without having been told to end.
    Failed {
        name: String,
        reason: String,
    },
}

/// What the tasks of all children share.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) output: Output,
    pub(crate) events: UnboundedSender<Event>,
}

impl Surroundings {
    pub(crate) fn tell(&self, event: Event) {
        // Once the platform stops, nobody listens any more.
        let _stopping = self.events.send(event);
    }
}

/// Children that are stopped together, or one by one.
pub(crate) struct Group {
    /// By the name of the child; closed once it has ended for good.
    orders: BTreeMap<String, watch::Sender<Order>>,
    tasks: JoinSet<()>,
}

impl Group {
    pub(crate) fn new() -> Self {
        Self { orders: BTreeMap::new(), tasks: JoinSet::new() }
    }

    /// Starts a child and keeps it running.
    pub(crate) fn keep_running(&mut self, spec: Spec, surroundings: Surroundings) {
        let orders = self.subscribe(&spec.name);
        self.run(keep_running(spec, orders, surroundings));
    }

    /// Runs a task that obeys the orders for a child by itself.
    pub(crate) fn run(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// The orders for a child of that name.
    pub(crate) fn subscribe(&mut self, name: &str) -> watch::Receiver<Order> {
        let (sender, orders) = watch::channel(Order::Run);
        self.orders.insert(name.to_owned(), sender);
        orders
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// The children that are there, and whether they are to run on.
    pub(crate) fn children(&mut self) -> impl Iterator<Item = (&str, bool)> {
        self.orders.retain(|_, orders| !orders.is_closed());
        while self.tasks.try_join_next().is_some() {}
        self.orders.iter().map(|(name, orders)| (name.as_str(), *orders.borrow() == Order::Run))
    }

    /// Lets one child finish what is under way, then end.
    pub(crate) fn stop(&self, name: &str) {
        if let Some(orders) = self.orders.get(name) {
            orders.send_replace(Order::Stop);
        }
    }

    pub(crate) fn order(&self, order: Order) {
        for orders in self.orders.values() {
            orders.send_replace(order);
        }
    }

    /// Waits until all have ended.
    pub(crate) async fn ended(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

async fn keep_running(spec: Spec, mut orders: watch::Receiver<Order>, surroundings: Surroundings) {
    let mut backoff = Backoff::default();
    while *orders.borrow() == Order::Run {
        let started = Instant::now();
        let reason = match Child::start(&spec, &surroundings, None) {
            Ok(child) => match child.until_told(&spec, &mut orders, &surroundings.output).await {
                Ended::AsTold => return,
                // One that ends as soon as it starts was not asked to.
                Ended::ByItself(status) if spec.renewable && status.success() && started.elapsed() >= FIRST_WAIT => {
                    surroundings.output.note(&format!("{} has drained; a fresh one takes its place", spec.name));
                    continue;
                }
                Ended::ByItself(status) => describe(status),
            },
            Err(error) => cannot_start(&spec, &error),
        };
        backoff.wait_after(&spec.name, &reason, started, &mut orders, &surroundings).await;
    }
}

/// How long to wait before a child is started again.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    fn next(&mut self, ran: Duration) -> Duration {
        self.failures = if ran >= HEALTHY { 0 } else { self.failures };
        let wait = FIRST_WAIT.saturating_mul(1 << self.failures.min(16)).min(LONGEST_WAIT);
        self.failures += 1;
        wait
    }

    /// Says what happened, and waits unless there is another order meanwhile.
    pub(crate) async fn wait_after(
        &mut self,
        name: &str,
        reason: &str,
        started: Instant,
        orders: &mut watch::Receiver<Order>,
        surroundings: &Surroundings,
    ) {
        let wait = self.next(started.elapsed());
        surroundings.tell(Event::Failed { name: name.to_owned(), reason: reason.to_owned() });
        surroundings.output.note(&format!("{name} {reason}; it starts again in {}", print::rough(wait)));
        tokio::select! {
            () = sleep(wait) => {}
            _ = orders.wait_for(|order| *order != Order::Run) => {}
        }
    }
}

pub(crate) fn cannot_start(spec: &Spec, error: &io::Error) -> String {
    format!("cannot be started: {}: {error}", spec.program.display())
}

pub(crate) fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal().map(Signal::try_from)) {
        (Some(code), _) => format!("ended with code {code}"),
        (None, Some(Ok(signal))) => format!("was ended by {signal}"),
        _ => format!("ended ({status})"),
    }
}

/// How a child ended.
pub(crate) enum Ended {
    AsTold,
    ByItself(ExitStatus),
}

/// A process that runs.
pub(crate) struct Child {
    process: tokio::process::Child,
    pid: Pid,
    passing_on: Vec<JoinHandle<()>>,
}

impl Child {
    /// Starts a process. A lock is handed to it: it holds it for as long as it and its own children live.
    ///
    /// To be called on the main thread, because the death of the thread that starts a child counts as its parent's.
    pub(crate) fn start(spec: &Spec, surroundings: &Surroundings, lock: Option<File>) -> io::Result<Self> {
        let mut command = Command::new(&spec.program);
        command.args(&spec.arguments).envs(spec.environment.iter().map(|(name, value)| (name, value)));
        for name in spec.withheld {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        bind_to_parent(&mut command, spec.on_orphaned, lock.as_ref());

        let mut process = command.spawn()?;
        let id = process.id().ok_or_else(|| io::Error::other("it ended at once"))?;
        let pid = Pid::from_raw(id.try_into().map_err(io::Error::other)?);
        surroundings.tell(Event::Started { name: spec.name.clone(), pid: id });
        let output = &surroundings.output;
        let mut passing_on = Vec::new();
        if let Some(pipe) = process.stdout.take() {
            passing_on.push(tokio::spawn(output.clone().pass_on(spec.name.clone(), pipe)));
        }
        if let Some(pipe) = process.stderr.take() {
            passing_on.push(tokio::spawn(output.clone().pass_on(spec.name.clone(), pipe)));
        }
        Ok(Self { process, pid, passing_on })
    }

    /// Runs until it ends, by itself or because an order says so.
    pub(crate) async fn until_told(
        mut self,
        spec: &Spec,
        orders: &mut watch::Receiver<Order>,
        output: &Output,
    ) -> Ended {
        let by_itself = tokio::select! {
            status = self.process.wait() => Some(status),
            _ = orders.wait_for(|order| *order != Order::Run) => None,
        };
        let ended = match by_itself {
            Some(status) => Ended::ByItself(status.unwrap_or_default()),
            None => {
                self.stop(spec, orders, output).await;
                Ended::AsTold
            }
        };
        // What it wrote last may still be in the pipe; a grandchild may keep the pipe open for long.
        for passing_on in self.passing_on {
            let _still_open = timeout(Duration::from_millis(500), passing_on).await;
        }
        ended
    }

    async fn stop(&mut self, spec: &Spec, orders: &mut watch::Receiver<Order>, output: &Output) {
        if *orders.borrow() == Order::Stop {
            // To the process alone: what its own children do about it is its affair.
            let _ended_already = nix::sys::signal::kill(self.pid, Signal::SIGTERM);
            tokio::select! {
                _ = self.process.wait() => return,
                _ = orders.wait_for(|order| *order == Order::Kill) => {}
                () = sleep(spec.grace) => {
                    output.note(&format!("{} has not stopped within {}; it is killed", spec.name, print::rough(spec.grace)));
                }
            }
        }
        // The process is not reaped yet, so its number is still its own, and its group's.
        let _ended_already = nix::sys::signal::killpg(self.pid, Signal::SIGKILL);
        let _status = self.process.wait().await;
    }
}

/// Makes the kernel end the child when this process dies, and lets it inherit the lock.
fn bind_to_parent(command: &mut Command, signal: Signal, lock: Option<&File>) {
    let parent = getpid();
    let lock = lock.map(AsRawFd::as_raw_fd);
    let prepare = move || {
        prctl::set_pdeathsig(signal)?;
        // The parent may have died before that.
        if getppid() != parent {
            return Err(io::Error::from_raw_os_error(nix::libc::ESRCH));
        }
        if let Some(lock) = lock {
            keep_open(lock)?;
        }
        Ok(())
    };
    #[expect(unsafe_code, reason = "there is no safe way to do something between fork and exec")]
    // SAFETY: the closure makes system calls only; it neither allocates nor takes a lock.
    unsafe {
        command.pre_exec(prepare);
    }
}

fn keep_open(descriptor: i32) -> io::Result<()> {
    #[expect(unsafe_code, reason = "a number is all that can be carried over a fork")]
    // SAFETY: the caller of `Child::start` holds the file until the child has been started.
    let descriptor = unsafe { BorrowedFd::borrow_raw(descriptor) };
    fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::empty()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_and_is_short_again_after_good_health() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..8).map(|_| backoff.next(Duration::ZERO).as_millis()).collect();
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000]);
        assert_eq!(backoff.next(HEALTHY), FIRST_WAIT);
    }
}
