//! The child's side.

#![expect(unsafe_code, reason = "standard output is given to libraries as standard error, which needs raw descriptors")]

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufRead, Write},
    os::fd::{AsFd, OwnedFd},
    process::ExitCode,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use fourmi_model::{Artifact, BlobId, Failure, JobId, LogEntry, Parent, Progress, TenantName};
use fourmi_queue::{Stop, StopSignal};
use fourmi_settings::{Environment, Logging};
use fourmi_telemetry::logging;
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use tracing::Instrument;

use super::{FromChild, Order, ToChild, parent::LONGEST_LINE};
use crate::{
    Context,
    context::{GrowingFile, Host, InputFile, NewFile, NewGrowing, Shared},
    enqueue::NewJob,
    handler::{Ended, Handlers},
    scratch::RunFolder,
};

/// Progress and lines of the log go to the parent this often at most.
const REPORT_EVERY: Duration = Duration::from_millis(50);

/// Lines of the log that go to the parent at once; it takes fewer in the long run.
const LINES_AT_ONCE: usize = 200;

/// The longest result in bytes of JSON: its line has words around it.
const LONGEST_RESULT: u64 = LONGEST_LINE - 1024;

/// Runs one job and says what came of it.
pub(crate) fn main(handlers: &Handlers) -> ExitCode {
    match run(handlers) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("this process is started by a worker, which tells it what to do: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(handlers: &Handlers) -> io::Result<()> {
    let voice = Arc::new(Voice::new(take_stdout()?));
    let mut first = String::new();
    io::stdin().lock().read_line(&mut first)?;
    let order: Order = serde_json::from_str(&first)?;
    let handler = handlers.get(order.kind.as_str()).ok_or_else(|| io::Error::other("an unknown kind"))?;

    let logging = Logging::read(&Environment::of(order.about.settings.clone())).map_err(io::Error::other)?;
    logging::init_child(&logging);
    let span = order.about.run.span(&order.kind);

    let stop = StopSignal::default();
    let (listener, signal) = (voice.clone(), stop.clone());
    std::thread::spawn(move || listen(&listener, &signal));
    let reporter = voice.clone();
    std::thread::spawn(move || reporter.report());

    let context = Context::new(order.about, true, RunFolder::borrowed(order.scratch), voice.clone(), stop);
    // Two threads, so that what is fetched can be passed on by one and taken by the other.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let ended = runtime.block_on(handler.run(&order.payload, context).instrument(span));
    voice.end(ended)?;
    // Blocking work that was left behind must not hold the process.
    runtime.shutdown_background();
    Ok(())
}

/// Keeps standard output for the conversation; libraries that print to it write to standard error instead.
fn take_stdout() -> io::Result<File> {
    let voice: OwnedFd = io::stdout().as_fd().try_clone_to_owned()?;
    // SAFETY: both descriptors are open, and nothing in this process owns descriptor 1 as a value that closes it.
    if unsafe { nix::libc::dup2(2, 1) } == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(File::from(voice))
}

/// Reads what the parent says. When it says nothing more it has died, and so does this process.
fn listen(voice: &Voice, stop: &StopSignal) {
    for line in io::stdin().lock().lines() {
        match line.as_deref().map(serde_json::from_str::<ToChild>) {
            Ok(Ok(ToChild::Stop { cancelled })) => stop.fire(if cancelled { Stop::Cancelled } else { Stop::Draining }),
            Ok(Ok(ToChild::Input { number, answer })) => voice.answer(number, Answer::Input(answer)),
            Ok(Ok(ToChild::Shared { number, answer })) => voice.answer(number, Answer::Shared(answer)),
            Ok(Ok(ToChild::Stored { number, answer })) => voice.answer(number, Answer::Stored(answer)),
            Ok(Ok(ToChild::Grown { number, answer })) => voice.answer(number, Answer::Grown(answer)),
            Ok(Ok(ToChild::Discarded { number, answer })) => voice.answer(number, Answer::Discarded(answer)),
            Ok(Ok(ToChild::Secret { number, answer })) => voice.answer(number, Answer::Secret(answer)),
            Ok(Ok(ToChild::Tenant { number, answer })) => voice.answer(number, Answer::Tenant(answer)),
            Ok(Ok(ToChild::Parents { number, answer })) => voice.answer(number, Answer::Parents(answer)),
            Ok(Ok(ToChild::Enqueued { number, answer })) => voice.answer(number, Answer::Enqueued(answer)),
            Ok(Err(_)) | Err(_) => break,
        }
    }
    std::process::exit(1);
}

/// Talks to the parent, as the host of the run.
struct Voice {
    state: Mutex<State>,
    /// There is progress, or a line, to be sent.
    reported: Condvar,
}

struct State {
    out: File,
    next_number: u64,
    questions: HashMap<u64, oneshot::Sender<Answer>>,
    /// What was not sent yet; newer progress replaces older.
    progress: Option<Progress>,
    /// Lines of the log that were not sent yet, and how many more there were.
    lines: Vec<LogEntry>,
    left_out: u64,
}

enum Answer {
    Input(Result<InputFile, Failure>),
    Shared(Result<Shared, Failure>),
    Stored(Result<Artifact, Failure>),
    Grown(Result<GrowingFile, Failure>),
    Discarded(Result<(), Failure>),
    Secret(Result<String, Failure>),
    Tenant(Result<Option<TenantName>, Failure>),
    Parents(Result<Vec<Parent>, Failure>),
    Enqueued(Result<JobId, Failure>),
}

impl Voice {
    fn new(out: File) -> Self {
        let (questions, lines) = (HashMap::new(), Vec::new());
        let state = State { out, next_number: 0, questions, progress: None, lines, left_out: 0 };
        Self { state: Mutex::new(state), reported: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, ended: Ended) -> io::Result<()> {
        let mut state = self.lock();
        state.send_reports()?;
        state.say(&FromChild::Ended(measured(ended)))
    }

    /// Sends progress and lines as they come, but not too often. A thread of its own, because handlers may block theirs.
    fn report(&self) {
        loop {
            let waited = self.reported.wait_while(self.lock(), |state| state.has_no_reports());
            // A parent that cannot hear has died; the listener ends this process.
            let _ = waited.unwrap_or_else(PoisonError::into_inner).send_reports();
            std::thread::sleep(REPORT_EVERY);
        }
    }

    fn ask(&self, question: impl FnOnce(u64) -> FromChild) -> io::Result<oneshot::Receiver<Answer>> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.lock();
        let number = state.next_number;
        state.next_number += 1;
        state.questions.insert(number, sender);
        state.say(&question(number))?;
        Ok(receiver)
    }

    fn answer(&self, number: u64, answer: Answer) {
        if let Some(question) = self.lock().questions.remove(&number) {
            // A run that no longer waits does not need the answer.
            let _ = question.send(answer);
        }
    }
}

impl State {
    fn has_no_reports(&self) -> bool {
        self.progress.is_none() && self.lines.is_empty()
    }

    fn send_reports(&mut self) -> io::Result<()> {
        if !self.lines.is_empty() {
            let lines = self.lines.drain(..).map(|entry| (entry.level(), entry.text().to_owned())).collect();
            let left_out = std::mem::take(&mut self.left_out);
            self.say(&FromChild::Log { lines, left_out })?;
        }
        match self.progress.take() {
            Some(progress) => self.say(&FromChild::Progress(progress)),
            None => Ok(()),
        }
    }

    fn say(&mut self, word: &FromChild) -> io::Result<()> {
        let mut line = serde_json::to_vec(word)?;
        line.push(b'\n');
        self.out.write_all(&line)
    }
}

impl Host for Voice {
    fn progress(&self, progress: Progress) {
        let mut state = self.lock();
        let begins = state.progress.as_ref().is_some_and(|unsent| unsent.stage != progress.stage);
        if begins {
            // Of a short stage there is nothing but its end. A parent that cannot hear has died.
            let _ = state.send_reports();
        }
        state.progress = Some(progress);
        drop(state);
        self.reported.notify_one();
    }

    fn log(&self, entry: LogEntry) {
        let mut state = self.lock();
        if state.lines.len() < LINES_AT_ONCE {
            state.lines.push(entry);
        } else {
            state.left_out += 1;
        }
        self.reported.notify_one();
    }

    fn log_left_out(&self, lines: u64) {
        self.lock().left_out += lines;
    }

    fn input(&self, file: BlobId) -> BoxFuture<'_, Result<InputFile, Failure>> {
        let answer = self.ask(|number| FromChild::Input { number, file });
        Box::pin(async move {
            match answer.map_err(|_| parent_lost())?.await {
                Ok(Answer::Input(answer)) => answer,
                _ => Err(parent_lost()),
            }
        })
    }

    fn share(&self, file: BlobId, name: Option<String>) -> BoxFuture<'_, Result<Shared, Failure>> {
        let answer = self.ask(|number| FromChild::Share { number, file, name });
        Box::pin(async move {
            match answer.map_err(|_| parent_lost())?.await {
                Ok(Answer::Shared(answer)) => answer,
                _ => Err(parent_lost()),
            }
        })
    }

    fn store(&self, file: NewFile) -> BoxFuture<'_, Result<Artifact, Failure>> {
        let answer = self.ask(|number| FromChild::Store { number, file });
        Box::pin(async move {
            match answer.map_err(|_| parent_lost())?.await {
                Ok(Answer::Stored(answer)) => answer,
                _ => Err(parent_lost()),
            }
        })
    }

    fn grow(&self, file: NewGrowing) -> BoxFuture<'_, Result<GrowingFile, Failure>> {
        let answer = self.ask(|number| FromChild::Grow { number, file });
        Box::pin(async move {
            match answer.map_err(|_| parent_lost())?.await {
                Ok(Answer::Grown(answer)) => answer,
                _ => Err(parent_lost()),
            }
        })
    }

    fn discard(&self, file: BlobId) -> BoxFuture<'_, Result<(), Failure>> {
        let answer = self.ask(|number| FromChild::Discard { number, file });
        Box::pin(async move {
            match answer.map_err(|_| parent_lost())?.await {
                Ok(Answer::Discarded(answer)) => answer,
                _ => Err(parent_lost()),
            }
        })
    }

    fn secret(&self, name: String) -> BoxFuture<'_, Result<String, Failure>> {
        let answer = self.ask(|number| FromChild::Secret { number, name });
        Box::pin(async move {
            match answer.map_err(|_| parent_lost())?.await {
                Ok(Answer::Secret(answer)) => answer,
                _ => Err(parent_lost()),
            }
        })
    }

    fn tenant(&self) -> BoxFuture<'_, Result<Option<TenantName>, Failure>> {
        let answer = self.ask(|number| FromChild::Tenant { number });
        Box::pin(async move {
            match answer.map_err(|_| parent_lost())?.await {
                Ok(Answer::Tenant(answer)) => answer,
                _ => Err(parent_lost()),
            }
        })
    }

    fn parents(&self) -> BoxFuture<'_, Result<Vec<Parent>, Failure>> {
        let answer = self.ask(|number| FromChild::Parents { number });
        Box::pin(async move {
            match answer.map_err(|_| parent_lost())?.await {
                Ok(Answer::Parents(answer)) => answer,
                _ => Err(parent_lost()),
            }
        })
    }

    fn enqueue(&self, job: NewJob) -> BoxFuture<'_, Result<JobId, Failure>> {
        let answer = self.ask(|number| FromChild::Enqueue { number, job });
        Box::pin(async move {
            match answer.map_err(|_| parent_lost())?.await {
                Ok(Answer::Enqueued(answer)) => answer,
                _ => Err(parent_lost()),
            }
        })
    }
}

/// A result that is longer than the parent listens is a failure with a code: it would take the child for dead, and run the
/// job again.
fn measured(ended: Ended) -> Ended {
    let result = ended?;
    let bytes = result.get().len() as u64;
    if bytes > LONGEST_RESULT {
        let message = format!(
            "the result has {bytes} bytes as JSON, and a result may have {LONGEST_RESULT}: give the job less at once"
        );
        return Err(Failure::permanent("result_too_large", message));
    }
    Ok(result)
}

fn parent_lost() -> Failure {
    Failure::retry("worker_lost", "the worker process does not answer")
}

#[cfg(test)]
mod tests {
    use serde_json::value::to_raw_value;

    use super::*;

    #[test]
    fn a_result_is_a_line_that_the_parent_takes_or_a_failure_with_a_code() {
        // With its quotes.
        let of_bytes = |bytes: u64| to_raw_value(&"x".repeat(bytes as usize - 2)).unwrap();
        let longest = measured(Ok(of_bytes(LONGEST_RESULT)));
        assert!(longest.is_ok());
        let line = serde_json::to_string(&FromChild::Ended(longest)).unwrap();
        assert!((line.len() as u64) < LONGEST_LINE, "with a line break behind it");
        let failure = measured(Ok(of_bytes(LONGEST_RESULT + 1))).unwrap_err();
        assert_eq!(failure.code, "result_too_large");
        assert_eq!(measured(Err(parent_lost())).unwrap_err(), parent_lost());
    }
}
