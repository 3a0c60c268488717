//! How far something is: a bar on a terminal, a line now and then elsewhere.

use std::{
    io::{self, IsTerminal},
    sync::{
        Arc, LazyLock, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use fourmi_model::{Job, Progress as JobProgress, State};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::print;

/// Every bar of the program, so that other lines can go above them.
static BARS: LazyLock<MultiProgress> = LazyLock::new(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr()));
static DRAWN: AtomicBool = AtomicBool::new(false);

const TRANSFER: &str = "{prefix:<12} [{bar:30}] {percent:>3} %  {bytes} of {total_bytes}, {eta} left";
const UNKNOWN_LENGTH: &str = "{prefix:<12} {spinner} {bytes}, {bytes_per_sec}";
const WORK: &str = "{prefix:<12} [{bar:30}] {percent:>3} %  {wide_msg}";
const WAIT: &str = "{spinner} {wide_msg}";

/// Between two lines about the same thing, where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// Writes something to the terminal without leaving pieces of bars behind.
pub(crate) fn above_bars(write: impl FnOnce()) {
    if DRAWN.load(Ordering::Relaxed) { BARS.suspend(write) } else { write() }
}

/// Shows how far one thing after another is.
#[derive(Clone)]
pub(crate) struct Progress(Arc<Mutex<Form>>);

enum Form {
    Silent,
    Bar(Option<ProgressBar>),
    Lines(Lines),
}

/// What was said last, so that a log file does not fill.
#[derive(Default)]
struct Lines {
    what: String,
    text: String,
    at: Option<Instant>,
}

impl Lines {
    /// Says something new: at once about a new thing or its end, else from time to time.
    fn say(&mut self, what: &str, percent: Option<u64>) {
        let text = percent.map_or_else(|| what.to_owned(), |percent| format!("{what}: {percent} %"));
        let due = self.at.is_none_or(|at| at.elapsed() >= LINE_EVERY);
        if text != self.text && (what != self.what || due || percent == Some(100)) {
            print::to_stderr(&text);
            *self = Self { what: what.to_owned(), text, at: Some(Instant::now()) };
        }
    }
}

impl Progress {
    pub(crate) fn silent() -> Self {
        Self::new(Form::Silent)
    }

    pub(crate) fn on_stderr() -> Self {
        let terminal = io::stderr().is_terminal();
        Self::new(if terminal { Form::Bar(None) } else { Form::Lines(Lines::default()) })
    }

    fn new(form: Form) -> Self {
        Self(Arc::new(Mutex::new(form)))
    }

    /// Bytes that go up or come down.
    pub(crate) fn transfer(&self, what: &str, bytes: u64, whole: Option<u64>) {
        self.update(|form| match form {
            Form::Silent => {}
            Form::Bar(bar) => {
                let template = if whole.is_some() { TRANSFER } else { UNKNOWN_LENGTH };
                let bar = shown(bar, template, what.to_owned(), String::new());
                bar.set_length(whole.unwrap_or(0).max(1));
                bar.set_position(bytes);
            }
            Form::Lines(lines) => {
                let whole = whole.filter(|whole| *whole > 0);
                lines.say(what, whole.map(|whole| bytes.min(whole) * 100 / whole));
            }
        });
    }

    /// A job that has come further.
    pub(crate) fn run(&self, progress: &JobProgress) {
        let percent = progress.percent.clamp(0.0, 100.0);
        let stage = print::one_line(&progress.stage);
        self.update(|form| match form {
            Form::Silent => {}
            Form::Bar(bar) => {
                let left = progress.eta_ms.filter(|ms| *ms > 0).map(|ms| Duration::from_secs(ms.div_ceil(1000)));
                let left = left.map(|left| format!("{} left", print::rough(left)));
                let words = Some(print::one_line(&progress.message)).filter(|words| !words.is_empty());
                let message = [left, words].into_iter().flatten().collect::<Vec<_>>().join(", ");
                let bar = shown(bar, WORK, stage, message);
                bar.set_length(1000);
                bar.set_position(f64::from(percent * 10.0).round() as u64);
            }
            Form::Lines(lines) => lines.say(&stage, Some(percent as u64)),
        });
    }

    /// A job that is in another state.
    pub(crate) fn job(&self, job: &Job) {
        if let (State::Running, Some(progress)) = (job.state, &job.progress) {
            return self.run(progress);
        }
        if job.state.is_final() {
            return;
        }
        self.wait(&describe(job), &note(job));
    }

    /// Something without a percentage.
    pub(crate) fn wait(&self, what: &str, note: &str) {
        let text = if note.is_empty() { what.to_owned() } else { format!("{what}: {note}") };
        self.update(|form| match form {
            Form::Silent => {}
            Form::Bar(bar) => {
                shown(bar, WAIT, String::new(), text);
            }
            Form::Lines(lines) => lines.say(&text, None),
        });
    }

    /// Takes the bar away.
    pub(crate) fn clear(&self) {
        self.update(|form| match form {
            Form::Bar(bar) => {
                if let Some(bar) = bar.take() {
                    bar.finish_and_clear();
                    BARS.remove(&bar);
                }
                DRAWN.store(false, Ordering::Relaxed);
            }
            Form::Lines(lines) => *lines = Lines::default(),
            Form::Silent => {}
        });
    }

    fn update(&self, change: impl FnOnce(&mut Form)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if Arc::strong_count(&self.0) == 1 {
            self.clear();
        }
    }
}

/// The bar, drawn by this template and with these words from now on.
fn shown<'a>(bar: &'a mut Option<ProgressBar>, template: &str, prefix: String, message: String) -> &'a ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let is_new = bar.is_none();
    let bar = bar.get_or_insert_with(ProgressBar::hidden);
    bar.set_prefix(prefix);
    bar.set_message(message);
    bar.set_style(style.progress_chars("=> "));
    if is_new {
        DRAWN.store(true, Ordering::Relaxed);
        // From here on every change is drawn: what is to be seen first must have been said before.
        *bar = BARS.add(bar.clone());
        bar.enable_steady_tick(Duration::from_millis(120));
    }
    bar
}

fn describe(job: &Job) -> String {
    let words = match job.state {
        State::Waiting => "waiting for a worker",
        State::Running if job.cancel_requested => "being cancelled",
        State::Running => "starting",
        State::Retrying => "waiting to try again",
        State::Scheduled => "waiting for its time",
        State::Blocked => "waiting for other jobs",
        State::Parked => "parked",
        other => other.as_str(),
    };
    words.to_owned()
}

fn note(job: &Job) -> String {
    let error = job.error.as_ref().map(|error| error.message.clone());
    print::one_line(&job.parked_reason.clone().or(error).unwrap_or_default())
}
