//! How far something is: a bar on a terminal, two while a job fetches its source; a line now and then elsewhere.

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
use jiff::Timestamp;

use crate::print;

/// Every bar of the program, so that other lines can go above them.
static BARS: LazyLock<MultiProgress> = LazyLock::new(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr()));
static DRAWN: AtomicBool = AtomicBool::new(false);

const TRANSFER: &str = "{prefix:<12} [{bar:30}] {percent:>3} %  {bytes} of {total_bytes}, {eta} left";
const UNKNOWN_LENGTH: &str = "{prefix:<12} {spinner} {bytes}, {bytes_per_sec}";
const WORK: &str = "{prefix:<12} [{bar:20}] {percent:>3} %  {wide_msg}";
const FETCHED_OF_UNKNOWN: &str = "{prefix:<12} {spinner} {wide_msg}";
const WAIT: &str = "{spinner} {wide_msg}";

/// The stage of a run that fetches its source, and counts bytes.
const DOWNLOAD: &str = "download";

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
    Bars(Bars),
    Lines(Lines),
}

#[derive(Default)]
struct Bars {
    /// What a run has fetched of its source. It stays, full, while the run goes on; a run that fetches nothing has none.
    download: Option<ProgressBar>,
    /// What goes on, as a whole.
    main: Option<ProgressBar>,
}

impl Bars {
    /// The main bar, alone.
    fn alone(&mut self, template: &str, what: String, words: String) -> &ProgressBar {
        remove(&mut self.download);
        shown(&mut self.main, None, template, what, words)
    }

    fn run(&mut self, progress: &JobProgress) {
        let left = progress.eta_ms.filter(|ms| *ms > 0).map(|ms| Duration::from_secs(ms.div_ceil(1000)));
        let left = left.map(|left| format!("{} left", print::rough(left)));
        let fetched = Fetched::of(progress);
        let (what, words) = match &fetched {
            // What it says in words is in the other bar.
            Some(_) => ("in all".to_owned(), None),
            None => (print::one_line(&progress.stage), Some(print::one_line(&progress.message))),
        };
        match fetched {
            Some(fetched) => self.fetch(&fetched),
            None if progress.stage != DOWNLOAD => self.has_fetched(),
            None => {}
        }
        let words = words.filter(|words| !words.is_empty());
        let words = [left, words].into_iter().flatten().collect::<Vec<_>>().join(", ");
        let bar = shown(&mut self.main, None, WORK, what, words);
        bar.set_length(1000);
        bar.set_position(f64::from(percent(progress) * 10.0).round() as u64);
    }

    fn fetch(&mut self, fetched: &Fetched) {
        let template = if fetched.whole.is_some() { WORK } else { FETCHED_OF_UNKNOWN };
        let bar = shown(&mut self.download, self.main.as_ref(), template, DOWNLOAD.to_owned(), fetched.words());
        bar.set_length(fetched.whole.unwrap_or(fetched.bytes).max(1));
        bar.set_position(fetched.bytes);
    }

    fn has_fetched(&mut self) {
        let Some(bar) = self.download.as_ref().filter(|bar| !bar.is_finished()) else { return };
        let words = print::bytes(bar.length().unwrap_or_default());
        let bar = shown(&mut self.download, None, WORK, DOWNLOAD.to_owned(), words);
        bar.finish();
    }
}

/// How much of its source a run has fetched.
struct Fetched {
    bytes: u64,
    whole: Option<u64>,
    bytes_per_s: u64,
}

impl Fetched {
    fn of(progress: &JobProgress) -> Option<Self> {
        let counter = |name| progress.counters.get(name).map(|count| *count as u64);
        let bytes = counter("downloaded_bytes").filter(|_| progress.stage == DOWNLOAD)?;
        Some(Self { bytes, whole: counter("total_bytes"), bytes_per_s: counter("bytes_per_s").unwrap_or(0) })
    }

    fn words(&self) -> String {
        // What is worth most goes first: a narrow terminal cuts the rest.
        let missing = self.whole.and_then(|whole| whole.checked_sub(self.bytes)).filter(|missing| *missing > 0);
        let seconds = missing.and_then(|missing| missing.checked_div(self.bytes_per_s));
        let mut words = seconds.map_or_else(String::new, |seconds| {
            format!("{} left, ", print::rough(Duration::from_secs(seconds.max(1))))
        });
        words += &print::bytes(self.bytes);
        if let Some(whole) = self.whole {
            words += &format!(" of {}", print::bytes(whole));
        }
        if self.bytes_per_s > 0 {
            words += &format!(", {}/s", print::bytes(self.bytes_per_s));
        }
        words
    }
}

fn percent(progress: &JobProgress) -> f32 {
    progress.percent.clamp(0.0, 100.0)
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
        Self::new(if terminal { Form::Bars(Bars::default()) } else { Form::Lines(Lines::default()) })
    }

    fn new(form: Form) -> Self {
        Self(Arc::new(Mutex::new(form)))
    }

    /// Bytes that go up or come down.
    pub(crate) fn transfer(&self, what: &str, bytes: u64, whole: Option<u64>) {
        self.update(|form| match form {
            Form::Silent => {}
            Form::Bars(bars) => {
                let template = if whole.is_some() { TRANSFER } else { UNKNOWN_LENGTH };
                let bar = bars.alone(template, what.to_owned(), String::new());
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
        self.update(|form| match form {
            Form::Silent => {}
            Form::Bars(bars) => bars.run(progress),
            Form::Lines(lines) => lines.say(&print::one_line(&progress.stage), Some(percent(progress) as u64)),
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
            Form::Bars(bars) => {
                bars.alone(WAIT, String::new(), text);
            }
            Form::Lines(lines) => lines.say(&text, None),
        });
    }

    /// Takes the bars away.
    pub(crate) fn clear(&self) {
        self.update(|form| match form {
            Form::Bars(bars) => {
                remove(&mut bars.download);
                remove(&mut bars.main);
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

/// The bar, drawn by this template and with these words from now on, and above the other if it is new.
fn shown<'a>(
    bar: &'a mut Option<ProgressBar>,
    other: Option<&ProgressBar>,
    template: &str,
    prefix: String,
    message: String,
) -> &'a ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let is_new = bar.is_none();
    let bar = bar.get_or_insert_with(ProgressBar::hidden);
    bar.set_prefix(prefix);
    bar.set_message(message);
    bar.set_style(style.progress_chars("=> "));
    if is_new {
        DRAWN.store(true, Ordering::Relaxed);
        // From here on every change is drawn: what is to be seen first must have been said before.
        *bar = match other {
            Some(other) => BARS.insert_before(other, bar.clone()),
            None => BARS.add(bar.clone()),
        };
        bar.enable_steady_tick(Duration::from_millis(120));
    }
    bar
}

fn remove(bar: &mut Option<ProgressBar>) {
    if let Some(bar) = bar.take() {
        bar.finish_and_clear();
        BARS.remove(&bar);
    }
}

fn describe(job: &Job) -> String {
    if let (State::Retrying, Some(due)) = (job.state, job.due_at) {
        let wait = print::rough(print::between(Timestamp::now(), due));
        return format!("will try again at {} (in {wait})", print::time_of_day(due));
    }
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
    print::one_line(&job.parked_reason.map(|reason| reason.to_string()).or(error).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(counters: &[(&str, f64)]) -> Option<String> {
        let counters = counters.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        Fetched::of(&JobProgress { stage: DOWNLOAD.to_owned(), counters, ..JobProgress::default() })
            .map(|it| it.words())
    }

    #[test]
    fn what_is_fetched_is_said_as_far_as_it_is_known() {
        let mib = f64::from(1 << 20);
        let (done, whole, speed) =
            (("downloaded_bytes", 2.0 * mib), ("total_bytes", 10.0 * mib), ("bytes_per_s", mib / 2.0));
        assert_eq!(words(&[done, whole, speed]).unwrap(), "16 s left, 2.00 MiB of 10.00 MiB, 512.00 KiB/s");
        assert_eq!(words(&[done, speed]).unwrap(), "2.00 MiB, 512.00 KiB/s");
        assert_eq!(words(&[done, whole, ("bytes_per_s", 0.0)]).unwrap(), "2.00 MiB of 10.00 MiB");
        assert_eq!(words(&[done, ("total_bytes", mib), speed]).unwrap(), "2.00 MiB of 1.00 MiB, 512.00 KiB/s");
        assert_eq!(words(&[whole]), None);
    }

    #[test]
    fn a_download_has_a_bar_of_its_own_which_stays_until_the_run_ends() {
        let at = |stage: &str, bytes: Option<f64>| JobProgress {
            stage: stage.to_owned(),
            percent: 10.0,
            counters: bytes.iter().map(|bytes| ("downloaded_bytes".to_owned(), *bytes)).collect(),
            ..JobProgress::default()
        };
        let mut bars = Bars::default();
        bars.run(&at("resolve", None));
        assert!(bars.download.is_none());
        bars.run(&at(DOWNLOAD, Some(5.0)));
        assert_eq!(bars.main.as_ref().unwrap().prefix(), "in all");
        assert_eq!(bars.download.as_ref().unwrap().position(), 5);
        bars.run(&at("transcode", None));
        assert!(bars.download.as_ref().unwrap().is_finished());
        assert_eq!(bars.main.as_ref().unwrap().prefix(), "transcode");
        bars.alone(WAIT, String::new(), "will try again".to_owned());
        assert!(bars.download.is_none());
    }
}
