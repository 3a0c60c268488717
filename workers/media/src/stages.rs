//! The stages of a job, and what share of it each has.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use fourmi_media::Control;
use fourmi_model::Progress;
use fourmi_runtime::Context;

/// No more often than this is a transfer told.
const INTERVAL: Duration = Duration::from_millis(100);

/// Before so many seconds nobody knows how fast a transfer is.
const FIRST_SPEED: f64 = 0.3;

/// What a job is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Resolve,
    Probe,
    Download,
    Analyse,
    Transcode,
    Tag,
    Waveform,
    Segment,
    Store,
}

impl Stage {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Probe => "probe",
            Self::Download => "download",
            Self::Analyse => "analyse",
            Self::Transcode => "transcode",
            Self::Tag => "tag",
            Self::Waveform => "waveform",
            Self::Segment => "segment",
            Self::Store => "store",
        }
    }

    /// Where it ends, in percent of a job that has every stage.
    const fn end(self) -> f32 {
        match self {
            Self::Resolve => 5.0,
            Self::Probe => 8.0,
            Self::Download => 60.0,
            Self::Analyse => 70.0,
            Self::Transcode => 90.0,
            Self::Tag => 93.0,
            Self::Waveform => 96.0,
            Self::Segment => 98.0,
            Self::Store => 100.0,
        }
    }

    const fn start(self) -> f32 {
        match self {
            Self::Resolve => 0.0,
            Self::Probe => Self::Resolve.end(),
            Self::Download => Self::Probe.end(),
            Self::Analyse => Self::Download.end(),
            Self::Transcode => Self::Analyse.end(),
            Self::Tag => Self::Transcode.end(),
            Self::Waveform => Self::Tag.end(),
            Self::Segment => Self::Waveform.end(),
            Self::Store => Self::Segment.end(),
        }
    }
}

/// Tells how far a job is; cheap to clone.
#[derive(Clone)]
pub(crate) struct Stages {
    context: Context,
    /// Where the first stage of this job starts: one whose source is here already has no download.
    origin: f32,
    state: Arc<Mutex<State>>,
}

struct State {
    stage: Stage,
    since: Instant,
    timings_ms: BTreeMap<String, u64>,
}

impl Stages {
    /// The stages of a job that begins with `first`.
    pub(crate) fn new(context: &Context, first: Stage) -> Self {
        let state = State { stage: first, since: Instant::now(), timings_ms: BTreeMap::new() };
        Self { context: context.clone(), origin: first.start(), state: Arc::new(Mutex::new(state)) }
    }

    /// Says that a stage begins.
    pub(crate) fn enter(&self, stage: Stage) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.close();
        state.stage = stage;
        drop(state);
        self.tell(0.0, Progress::default());
    }

    /// The present one.
    pub(crate) fn stage(&self) -> Stage {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).stage
    }

    /// How long each stage took so far, in milliseconds.
    pub(crate) fn timings(&self) -> BTreeMap<String, u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.close();
        state.timings_ms.clone()
    }

    /// Says something in the present stage, which is at `percent` of its own.
    pub(crate) fn say(&self, percent: f32, message: impl Into<String>) {
        self.tell(percent, Progress { message: message.into(), ..Progress::default() });
    }

    /// Says how far a download is.
    pub(crate) fn transfer(&self, transfer: &mut Transfer, bytes: u64) {
        let (percent, progress) = transfer.progress(bytes);
        self.tell(percent, progress);
    }

    fn tell(&self, percent: f32, mut progress: Progress) {
        let stage = self.state.lock().unwrap_or_else(PoisonError::into_inner).stage;
        let percent = if percent.is_finite() { percent.clamp(0.0, 100.0) } else { 0.0 };
        let whole = stage.start() + (stage.end() - stage.start()) * percent / 100.0;
        progress.percent = (whole - self.origin) * 100.0 / (100.0 - self.origin);
        stage.as_str().clone_into(&mut progress.stage);
        progress.counters.insert("stage_percent".to_owned(), f64::from(percent));
        self.context.progress(progress);
    }
}

impl State {
    fn close(&mut self) {
        let ms = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        *self.timings_ms.entry(self.stage.as_str().to_owned()).or_default() += ms;
        self.since = Instant::now();
    }
}

/// The library's view: its own stages run from 0 to 100 each.
impl Control for Stages {
    fn progress(&self, progress: Progress) {
        self.tell(progress.percent, progress);
    }

    fn cancelled(&self) -> bool {
        self.context.is_cancelled()
    }
}

/// A download on its way.
pub(crate) struct Transfer {
    total: Option<u64>,
    first: u64,
    started: Instant,
    told: Option<Instant>,
}

impl Transfer {
    /// A download of which `first` bytes are there already.
    pub(crate) fn start(first: u64, total: Option<u64>) -> Self {
        Self { total, first, started: Instant::now(), told: None }
    }

    pub(crate) fn is_due(&self) -> bool {
        self.told.is_none_or(|told| told.elapsed() >= INTERVAL)
    }

    /// The size of the whole, as it is known by now.
    pub(crate) fn set_total(&mut self, total: Option<u64>) {
        self.total = total.or(self.total);
    }

    fn progress(&mut self, bytes: u64) -> (f32, Progress) {
        self.told = Some(Instant::now());
        let seconds = self.started.elapsed().as_secs_f64().max(0.001);
        // What was read ahead would look like the speed of light.
        let speed = if seconds < FIRST_SPEED { 0.0 } else { bytes.saturating_sub(self.first) as f64 / seconds };
        let mut counters = BTreeMap::from([("downloaded_bytes".to_owned(), bytes as f64)]);
        if speed > 0.0 {
            counters.insert("bytes_per_s".to_owned(), speed.round());
        }
        let size = |bytes: f64| format!("{:.1} MB", bytes / 1e6);
        let pace = if speed > 0.0 { format!(", {}/s", size(speed)) } else { String::new() };
        let Some(total) = self.total.filter(|&total| total > 0) else {
            let message = format!("{} fetched{pace}", size(bytes as f64));
            return (0.0, Progress { message, counters, ..Progress::default() });
        };
        counters.insert("total_bytes".to_owned(), total as f64);
        let fraction = (bytes as f64 / total as f64).min(1.0);
        let left = total.saturating_sub(bytes) as f64;
        let eta_ms = (speed > 0.0).then(|| (left / speed * 1_000.0) as u64);
        let message = format!("{} of {} fetched{pace}", size(bytes as f64), size(total as f64));
        ((fraction * 100.0) as f32, Progress { message, eta_ms, counters, ..Progress::default() })
    }
}
