//! The worker's side: starts the child, serves what it asks for, watches its memory and its time, and finds out how
//! it ended.

#![expect(unsafe_code, reason = "limits and the death signal are set between fork and exec")]

use std::{
    collections::VecDeque,
    io,
    os::unix::process::ExitStatusExt,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use fourmi_model::{ErrorClass, Failure, LogEntry, Policy};
use fourmi_queue::{Stop, StopSignal};
use fourmi_telemetry::{logging, process, traces::TraceContext};
use nix::{
    sys::{
        resource::{Resource, setrlimit},
        signal::{Signal, killpg},
    },
    unistd::{Pid, getppid},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    sync::mpsc,
    task::JoinHandle,
    time::{interval, sleep, timeout},
};
use tracing::Instrument;

use super::{ARGUMENT, Crash, FromChild, Order, ToChild};
use crate::{
    context::{Host, TRACEPARENT},
    dispatch::{RunEnd, timed_out},
    handler::Ended,
};

/// How often the child's memory is looked at.
const MEMORY_EVERY: Duration = Duration::from_millis(100);

/// What the child may allocate above its limit before the system refuses it: room for what is not resident.
const MEMORY_RESERVE: u64 = 256 * 1024 * 1024;

/// The longest line that a child may say: a result is the longest.
pub(super) const LONGEST_LINE: u64 = 4 * 1024 * 1024;

/// The longest piece of standard error that is one line of the log.
const LONGEST_LOG_LINE: u64 = 16 * 1024;

/// Lines of standard error that are kept to explain a crash.
const LAST_LINES: usize = 20;

/// Runs a job in a child.
pub(crate) async fn run(
    order: &Order,
    memory_bytes: u64,
    policy: &Policy,
    host: Arc<dyn Host>,
    stop: &StopSignal,
) -> RunEnd {
    let mut child = match spawn(memory_bytes, order.about.trace) {
        Ok(child) => child,
        Err(error) => {
            let failure = Failure::retry("spawn_failed", "no process could be started for the run");
            return RunEnd::Ended(Err(failure.class(ErrorClass::Internal).because(error)));
        }
    };
    let (Some(stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return RunEnd::Ended(Err(Failure::retry("spawn_failed", "the process of the run has no pipes")));
    };
    let group = Group::of(&child);
    let last_words = tokio::spawn(follow_stderr(stderr).in_current_span());
    let talk = converse(order, stdin, stdout, host);
    let death = watch(&group, memory_bytes, policy, stop, talk).await;
    // Whatever happened: nothing of the group is left.
    group.kill(Signal::SIGKILL);
    let status = child.wait().await;
    conclude(death, status, last_words).await
}

/// What ended the conversation.
enum Talked {
    /// The handler said its last word.
    Ended(Ended),
    /// The child fell silent.
    Silent,
    /// The child was stopped because it took too much memory.
    TooMuchMemory(u64),
    /// The child was stopped because it took too long.
    TooLong(Duration),
    /// The child was stopped because somebody asked.
    Stopped,
}

fn spawn(memory_bytes: u64, trace: Option<TraceContext>) -> io::Result<Child> {
    // Not `current_exe`: after a deploy that may name another program, or none.
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0(std::env::args().next().unwrap_or_default())
        .arg(ARGUMENT)
        .env_clear()
        // Fewer heaps: a child with a handful of threads must not reserve hundreds of megabytes.
        .env("MALLOC_ARENA_MAX", "2")
        .envs(trace.map(|context| (TRACEPARENT, context.to_string())))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let parent = nix::unistd::getpid();
    // SAFETY: between fork and exec only async-signal-safe calls are made: prctl, setrlimit, getppid.
    unsafe {
        command.pre_exec(move || {
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
            if getppid() != parent {
                return Err(io::Error::other("the worker has died"));
            }
            nix::sys::prctl::set_no_new_privs()?;
            let data = memory_bytes + MEMORY_RESERVE;
            setrlimit(Resource::RLIMIT_DATA, data, data)?;
            setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
            setrlimit(Resource::RLIMIT_NOFILE, 256, 256)?;
            Ok(())
        });
    }
    command.spawn()
}

/// The child and whatever it has started.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw))
    }

    fn kill(&self, signal: Signal) {
        if let Some(leader) = self.0 {
            // A group that has gone already is what was wanted.
            let _ = killpg(leader, signal);
        }
    }

    /// Resident memory of the child and of all that it has started, in bytes.
    fn memory(&self) -> Option<u64> {
        process::resident_memory(self.0?.as_raw())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill(Signal::SIGKILL);
    }
}

/// Lets the conversation go on until it ends or must end.
async fn watch(
    group: &Group,
    memory_bytes: u64,
    policy: &Policy,
    stop: &StopSignal,
    talk: (impl Future<Output = Talked>, mpsc::UnboundedSender<ToChild>),
) -> Talked {
    let (talk, mouth) = talk;
    tokio::pin!(talk);
    let mut looks = interval(MEMORY_EVERY);
    let late = sleep(policy.timeout);
    tokio::pin!(late);
    loop {
        tokio::select! {
            talked = &mut talk => return talked,
            _ = looks.tick() => {
                if let Some(used) = group.memory().filter(|used| *used > memory_bytes) {
                    return Talked::TooMuchMemory(used);
                }
            }
            () = &mut late => return Talked::TooLong(policy.timeout),
            reason = stop.fired() => {
                if reason == Stop::LeaseLost {
                    return Talked::Stopped;
                }
                // If the child cannot hear it is about to be killed anyway.
                let _ = mouth.send(ToChild::Stop { cancelled: reason == Stop::Cancelled });
                return timeout(policy.stop_grace, talk).await.unwrap_or(Talked::Stopped);
            }
        }
    }
}

/// Gives the order and serves the child. The sender takes words for it from elsewhere.
fn converse(
    order: &Order,
    mut stdin: ChildStdin,
    stdout: ChildStdout,
    host: Arc<dyn Host>,
) -> (impl Future<Output = Talked>, mpsc::UnboundedSender<ToChild>) {
    let (mouth, mut words) = mpsc::unbounded_channel::<ToChild>();
    let first = serde_json::to_vec(order);
    let write = async move {
        stdin.write_all(&first?).await?;
        stdin.write_all(b"\n").await?;
        while let Some(word) = words.recv().await {
            stdin.write_all(&serde_json::to_vec(&word)?).await?;
            stdin.write_all(b"\n").await?;
        }
        Ok::<_, io::Error>(())
    };
    let reply = mouth.clone();
    let talk = async move {
        // The writer ends with this future; a child that does not read has died, which its silence shows.
        let writing = tokio::spawn(write);
        let talked = listen(stdout, host, reply).await;
        writing.abort();
        talked
    };
    (talk, mouth)
}

async fn listen(stdout: ChildStdout, host: Arc<dyn Host>, reply: mpsc::UnboundedSender<ToChild>) -> Talked {
    let mut reader = BufReader::new(stdout);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut reader).take(LONGEST_LINE).read_until(b'\n', &mut line).await {
            Ok(length) if length > 0 && line.ends_with(b"\n") => {}
            _ => return Talked::Silent,
        }
        match serde_json::from_slice::<FromChild>(&line) {
            Ok(FromChild::Progress(progress)) => host.progress(progress),
            Ok(FromChild::Log { lines, left_out }) => {
                lines.iter().for_each(|(level, text)| host.log(LogEntry::new(*level, text)));
                if left_out > 0 {
                    host.log_left_out(left_out);
                }
            }
            Ok(FromChild::Input { number, file }) => {
                let answer = host.input(file).await;
                let _ = reply.send(ToChild::Input { number, answer });
            }
            Ok(FromChild::Share { number, file, name }) => {
                let answer = host.share(file, name).await;
                let _ = reply.send(ToChild::Shared { number, answer });
            }
            Ok(FromChild::Store { number, file }) => {
                let answer = host.store(file).await;
                let _ = reply.send(ToChild::Stored { number, answer });
            }
            Ok(FromChild::Grow { number, file }) => {
                let answer = host.grow(file).await;
                let _ = reply.send(ToChild::Grown { number, answer });
            }
            Ok(FromChild::Discard { number, file }) => {
                let answer = host.discard(file).await;
                let _ = reply.send(ToChild::Discarded { number, answer });
            }
            Ok(FromChild::Secret { number, name }) => {
                let answer = host.secret(name).await;
                let _ = reply.send(ToChild::Secret { number, answer });
            }
            Ok(FromChild::Tenant { number }) => {
                let answer = host.tenant().await;
                let _ = reply.send(ToChild::Tenant { number, answer });
            }
            Ok(FromChild::Parents { number }) => {
                let answer = host.parents().await;
                let _ = reply.send(ToChild::Parents { number, answer });
            }
            Ok(FromChild::Enqueue { number, job }) => {
                let answer = host.enqueue(job).await;
                let _ = reply.send(ToChild::Enqueued { number, answer });
            }
            Ok(FromChild::Ended(ended)) => return Talked::Ended(ended),
            Err(_) => return Talked::Silent,
        }
    }
}

async fn conclude(talked: Talked, status: io::Result<ExitStatus>, last_words: JoinHandle<VecDeque<String>>) -> RunEnd {
    match talked {
        Talked::Ended(ended) => RunEnd::Ended(ended),
        Talked::TooLong(limit) => RunEnd::Ended(Err(timed_out(limit))),
        Talked::Stopped => RunEnd::Ended(Err(Failure::cancelled())),
        Talked::TooMuchMemory(used) => RunEnd::Crashed(Crash {
            code: "out_of_memory",
            message: format!("it took {} MiB of memory, more than its kind may", used >> 20),
            last_words: lines(last_words).await,
        }),
        Talked::Silent => RunEnd::Crashed(crash(status, lines(last_words).await)),
    }
}

async fn lines(last_words: JoinHandle<VecDeque<String>>) -> String {
    let lines = timeout(Duration::from_secs(1), last_words).await;
    lines.ok().and_then(Result::ok).map(|lines| Vec::from(lines).join("\n")).unwrap_or_default()
}

fn crash(status: io::Result<ExitStatus>, last_words: String) -> Crash {
    // Rust and libraries say this before they abort when the system refuses memory.
    let refused = ["memory allocation of", "Cannot allocate memory", "bad_alloc"];
    if refused.iter().any(|text| last_words.contains(text)) {
        let message = "it asked for more memory than its kind may take".to_owned();
        return Crash { code: "out_of_memory", message, last_words };
    }
    let message = match status {
        Ok(status) => match status.signal().map(Signal::try_from) {
            Some(Ok(signal)) => format!("it was ended by {signal}"),
            Some(Err(_)) => "it was ended by a signal".to_owned(),
            None => format!("it ended without an answer, with status {}", status.code().unwrap_or(-1)),
        },
        Err(error) => format!("how it ended is unknown: {error}"),
    };
    Crash { code: "process_died", message, last_words }
}

/// Takes over the log of the child, logs what else it writes to standard error, and keeps the last lines of that.
async fn follow_stderr(stderr: ChildStderr) -> VecDeque<String> {
    let mut last = VecDeque::with_capacity(LAST_LINES);
    let mut reader = BufReader::new(stderr);
    let mut line = Vec::new();
    while let Ok(1..) = (&mut reader).take(LONGEST_LOG_LINE).read_until(b'\n', &mut line).await {
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        line.clear();
        if logging::take_over(&text) {
            continue;
        }
        tracing::debug!("{text}");
        if last.len() == LAST_LINES {
            last.pop_front();
        }
        last.push_back(text);
    }
    last
}
