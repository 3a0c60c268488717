//! Records streams that are on the air.
//!
//! The sound of each segment is appended, as bare frames, to a file that can be played while it grows. After each the state
//! is noted, so that another run goes on where this one was cut off; what was sent meanwhile and is not to be had any more
//! is a gap. In the end the file is written anew in the form that was asked for.

mod playlist;

use std::{
    collections::{BTreeMap, VecDeque},
    fs::{self, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use fourmi_kinds::{AudioLive, Gap, LiveEnd, MediaNote};
use fourmi_media::{Control, audio};
use fourmi_model::{BlobId, ErrorClass, Failure, Progress};
use fourmi_runtime::{Context, GrowingFile, Kept};
use jiff::Timestamp;
use playlist::{Read, Segment, Window};
use serde::{Deserialize, Serialize};

use crate::source::Fetcher;

/// The largest segment that is fetched.
const LARGEST_SEGMENT: usize = 128 * 1024 * 1024;

/// Addresses of segments that are remembered, to tell a playlist of a minute ago from a stream that started anew.
const REMEMBERED: usize = 64;

/// A playlist is at most so many segments older than the newest one that was seen.
const STALE_SEGMENTS: u64 = 3;

/// So many gaps are listed.
const MOST_GAPS: usize = 1_000;

/// A playlist that stays older than what was seen is one of a stream that started anew.
const STALE_LOOKS: u32 = 3;

/// A stream that is not there yet is looked for again after this.
const NOT_STARTED: Duration = Duration::from_secs(30);

/// A recording on its way.
pub(crate) struct Recorder<'a> {
    pub(crate) job: &'a AudioLive,
    pub(crate) context: &'a Context,
    pub(crate) fetcher: Fetcher<'a>,
    pub(crate) kept: &'a Kept,
    state: State,
    file: Option<GrowingFile>,
    /// How many times in a row the playlist was older than what was seen.
    stale: u32,
}

/// What was recorded so far.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct State {
    file: Option<BlobId>,
    codec: Option<String>,
    /// How much of the file counts.
    bytes: u64,
    recorded_us: u64,
    /// The number of the next segment.
    next: Option<u64>,
    recent: VecDeque<String>,
    pub(crate) segments: u64,
    pub(crate) reconnects: u64,
    pub(crate) gaps: Vec<Gap>,
    pub(crate) notes: Vec<MediaNote>,
    /// Why it ended, once it has.
    ended: Option<LiveEnd>,
}

impl State {
    const NAME: &'static str = "live";

    pub(crate) fn recorded_ms(&self) -> u64 {
        self.recorded_us / 1_000
    }
}

/// What was recorded, when it is over.
pub(crate) struct Recorded {
    pub(crate) state: State,
    pub(crate) ended: LiveEnd,
    pub(crate) path: PathBuf,
    pub(crate) file: BlobId,
}

impl<'a> Recorder<'a> {
    pub(crate) fn new(job: &'a AudioLive, context: &'a Context, fetcher: Fetcher<'a>, kept: &'a Kept) -> Self {
        let state = kept.checkpoint(State::NAME).unwrap_or_default();
        Self { job, context, fetcher, kept, state, file: None, stale: 0 }
    }

    /// Records until the stream ends, its time is over, or somebody stops it.
    ///
    /// # Errors
    /// `cancelled` if another run is to go on; the codes of the source as long as nothing was recorded.
    pub(crate) async fn record(mut self) -> Result<Recorded, Failure> {
        self.go_on_with_file().await?;
        let ended = match self.state.ended {
            Some(ended) => ended,
            None => self.follow().await?,
        };
        self.state.ended = Some(ended);
        self.note()?;
        match self.file {
            Some(file) => Ok(Recorded { state: self.state, ended, path: file.path, file: file.id }),
            None => Err(Failure::permanent("zero_duration", "the recording ended before there was any sound")
                .class(ErrorClass::NotFound)),
        }
    }

    /// Finds the file of an earlier run and cuts off what was not noted.
    async fn go_on_with_file(&mut self) -> Result<(), Failure> {
        let Some(id) = self.state.file else { return Ok(()) };
        let file = self.context.grow(Some(id), "live", "audio/aac").await?;
        let length = fs::metadata(&file.path).map(|metadata| metadata.len()).unwrap_or(0);
        if file.id != id || length < self.state.bytes {
            // It lies on another machine, or is lost: what follows is a recording of its own.
            self.context.discard(file.id).await?;
            self.state = State::default();
            return Ok(());
        }
        let cut = OpenOptions::new().write(true).open(&file.path).and_then(|open| open.set_len(self.state.bytes));
        cut.map_err(|error| storage(&error))?;
        self.file = Some(file);
        Ok(())
    }

    async fn follow(&mut self) -> Result<LiveEnd, Failure> {
        let mut list = None;
        let mut away = false;
        let mut newest = Instant::now();
        let patience = Duration::from_millis(self.job.patience_ms);
        loop {
            if let Some(end) = self.end()? {
                return Ok(end);
            }
            let wait = match self.look(&mut list).await {
                Ok(window) => {
                    self.state.reconnects += u64::from(std::mem::take(&mut away));
                    match self.take(&window).await? {
                        Taken::All(_) if window.ended => return Ok(LiveEnd::Finished),
                        // RFC 8216, section 6.3.4: after a change the target duration, otherwise half of it.
                        Taken::All(0) => window.target_ms / 2,
                        Taken::All(_) => {
                            newest = Instant::now();
                            window.target_ms.min(2_000)
                        }
                        Taken::Stopped => 0,
                        Taken::Broken => 500,
                    }
                }
                Err(failure) if self.context.is_cancelled() => {
                    drop(failure);
                    0
                }
                Err(failure) if self.state.segments == 0 => return Err(not_started(failure)),
                Err(_) => {
                    // A master playlist may have moved on, too.
                    list = None;
                    away = true;
                    500
                }
            };
            // An encoder that has died may leave its last playlist behind: what counts is sound.
            if wait > 0 && newest.elapsed() > patience {
                return if self.state.segments > 0 { Ok(LiveEnd::Lost) } else { Err(not_heard()) };
            }
            self.tell(away);
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(wait)) => {}
                () = self.context.cancelled() => {}
            }
        }
    }

    /// Whether it is over by the will of somebody here.
    fn end(&self) -> Result<Option<LiveEnd>, Failure> {
        if self.context.is_cancelled_for_good() {
            return Ok(Some(LiveEnd::Stopped));
        }
        if self.context.is_cancelled() {
            return Err(Failure::cancelled());
        }
        // A minute less than what can be written in the end.
        let most_ms = u64::try_from(audio::MAX_DURATION.as_millis()).unwrap_or(u64::MAX) - 60_000;
        let long_enough = self.state.recorded_ms() >= self.job.max_duration_ms.unwrap_or(most_ms).min(most_ms);
        let late_enough = self.job.stop_at.is_some_and(|at| Timestamp::now() >= at);
        Ok((long_enough || late_enough).then_some(LiveEnd::Limit))
    }

    async fn look(&self, list: &mut Option<String>) -> Result<Window, Failure> {
        let mut url = list.clone().unwrap_or_else(|| self.job.url.clone());
        // A list of variants that names another one is read, too; one that names itself is not followed for ever.
        for _ in 0..4 {
            let text = self.fetcher.fetch_small(&url, None, playlist::LONGEST).await?;
            // What it names is seen from where redirects led.
            match playlist::read(&text.content, &text.url)? {
                Read::Window(window) => {
                    *list = Some(url);
                    return Ok(window);
                }
                Read::Variant(variant) => url = variant,
            }
        }
        Err(Failure::permanent("unsupported_url", "the playlist leads from list to list")
            .class(ErrorClass::Unsupported))
    }

    /// Records what is new in a window.
    async fn take(&mut self, window: &Window) -> Result<Taken, Failure> {
        let from = self.place(window);
        let Some(from) = from else { return Ok(Taken::All(0)) };
        let mut taken = 0;
        for (number, segment) in (window.first..).zip(&window.segments).skip_while(|(number, _)| *number < from) {
            if self.end()?.is_some() {
                return Ok(Taken::Stopped);
            }
            match self.take_one(segment).await {
                Ok(()) => {}
                Err(failure) if failure.code == "cancelled" => return Ok(Taken::Stopped),
                Err(failure) if failure.code == "disk_full" || failure.code == "storage_failed" => return Err(failure),
                // It may be to be had again in a moment, as long as it is in the window.
                Err(failure) if failure.report().retryable => return Ok(Taken::Broken),
                // Whoever begins like that will not become better; only the first segments may have left the window.
                Err(failure) if failure.code != "source_gone" && self.state.segments == 0 => return Err(failure),
                Err(failure) => self.miss(Some(segment.duration_ms), Some(1), &failure.message),
            }
            taken += 1;
            self.state.next = Some(number + 1);
            self.remember(&segment.url);
            self.note()?;
            self.tell(false);
        }
        Ok(Taken::All(taken))
    }

    /// Where to go on in a window; notes what was missed. None if it is older than what was seen.
    fn place(&mut self, window: &Window) -> Option<u64> {
        let Some(next) = self.state.next else { return Some(window.first) };
        if window.first > next {
            let missed = window.first - next;
            self.miss(Some(missed.saturating_mul(window.target_ms)), Some(missed), "the stream went on without us");
            // Missed once, however often the window is looked at.
            self.state.next = Some(window.first);
            return Some(window.first);
        }
        if window.next() >= next {
            self.stale = 0;
            return Some(next);
        }
        self.stale += 1;
        let known = window.segments.last().is_none_or(|last| self.state.recent.contains(&last.url));
        if known && next - window.next() <= STALE_SEGMENTS && self.stale <= STALE_LOOKS {
            return None;
        }
        // It counts anew: it was started again.
        self.miss(None, None, "the stream was started again");
        self.stale = 0;
        self.state.next = Some(window.first);
        Some(window.first)
    }

    async fn take_one(&mut self, segment: &Segment) -> Result<(), Failure> {
        let folder = self.kept.folder();
        let (raw, bare) = (folder.join("segment"), folder.join("segment.sound"));
        let mut content = Vec::new();
        if let Some((url, range)) = &segment.init {
            content = self.fetcher.fetch_small(url, *range, LARGEST_SEGMENT).await?.content;
        }
        content.extend(self.fetcher.fetch_small(&segment.url, segment.range, LARGEST_SEGMENT).await?.content);
        fs::write(&raw, &content).map_err(|error| storage(&error))?;
        drop(content);
        let (input, output, context) = (raw, bare.clone(), self.context.clone());
        let sound = tokio::task::spawn_blocking(move || audio::elementary(&input, &output, &Finishing(context)));
        let sound = sound.await.map_err(|error| storage(&io::Error::other(error)))??;
        if self.state.codec.as_ref().is_some_and(|codec| *codec != sound.codec) {
            let message = format!("the sound changed its encoding to {}", sound.codec);
            return Err(Failure::permanent("codec_unsupported", message));
        }
        if self.file.is_none() {
            let name = format!("live.{}", sound.extension);
            let file = self.context.grow(None, name, sound.media_type).await?;
            self.state.file = Some(file.id);
            self.file = Some(file);
        }
        let Some(file) = &self.file else { return Ok(()) };
        self.state.bytes += append(&bare, &file.path, self.state.bytes).map_err(|error| storage(&error))?;
        self.state.codec = Some(sound.codec);
        self.state.recorded_us += sound.duration_us;
        self.state.segments += 1;
        Ok(())
    }

    /// Marks a place where sound is missing. What is missing at one place is one gap.
    fn miss(&mut self, missing_ms: Option<u64>, segments: Option<u64>, why: &str) {
        tracing::info!(missing_ms, segments, why, "a gap in a live recording");
        let at_ms = self.state.recorded_ms();
        let add = |a: Option<u64>, b: Option<u64>| Some(a?.saturating_add(b?));
        if let Some(gap) = self.state.gaps.last_mut().filter(|gap| gap.at_ms == at_ms) {
            (gap.missing_ms, gap.segments) = (add(gap.missing_ms, missing_ms), add(gap.segments, segments));
        } else if self.state.gaps.len() < MOST_GAPS {
            self.state.gaps.push(Gap { at_ms, missing_ms, segments });
        }
    }

    fn remember(&mut self, url: &str) {
        self.state.recent.push_back(url.to_owned());
        if self.state.recent.len() > REMEMBERED {
            self.state.recent.pop_front();
        }
    }

    fn note(&self) -> Result<(), Failure> {
        self.kept.set_checkpoint(State::NAME, &self.state).map_err(|error| storage(&error))
    }

    fn tell(&self, away: bool) {
        let seconds = self.state.recorded_ms() / 1_000;
        let clock = format!("{}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60);
        let message =
            if away { format!("{clock} recorded; waiting for the stream") } else { format!("{clock} recorded") };
        let count = |name: &str, value: u64| (name.to_owned(), value as f64);
        self.context.progress(Progress {
            stage: "record".to_owned(),
            percent: 0.0,
            message,
            eta_ms: None,
            counters: BTreeMap::from([
                count("media_ms", self.state.recorded_ms()),
                count("output_bytes", self.state.bytes),
                count("segments", self.state.segments),
                count("gaps", self.state.gaps.len() as u64),
                count("reconnects", self.state.reconnects),
            ]),
            file: self.state.file,
        });
    }
}

/// What came of a window.
enum Taken {
    /// So many segments are new, and recorded.
    All(usize),
    Stopped,
    Broken,
}

/// What was begun is finished, even when the job is cancelled: that is how a recording is stopped.
pub(crate) struct Finishing(pub(crate) Context);

impl Control for Finishing {
    fn progress(&self, progress: Progress) {
        drop(progress);
    }

    fn cancelled(&self) -> bool {
        self.0.is_cancelled() && !self.0.is_cancelled_for_good()
    }
}

/// Appends one file to another at a place; gives the number of bytes.
fn append(from: &Path, to: &Path, at: u64) -> io::Result<u64> {
    let mut to = OpenOptions::new().write(true).open(to)?;
    to.set_len(at)?;
    io::Seek::seek(&mut to, io::SeekFrom::Start(at))?;
    let bytes = io::copy(&mut fs::File::open(from)?, &mut to)?;
    to.flush()?;
    Ok(bytes)
}

fn storage(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Failure::retry("disk_full", "there is no room left on the worker's disk")
        }
        _ => Failure::retry("storage_failed", "the recording could not be written").because(error),
    }
}

/// A worker does not wait for a stream that is not there: the job comes back.
fn not_started(failure: Failure) -> Failure {
    if failure.code != "source_gone" {
        return failure;
    }
    Failure::retry_after(NOT_STARTED, "live_not_started", "the stream is not there yet").class(ErrorClass::Unavailable)
}

fn not_heard() -> Failure {
    Failure::retry_after(NOT_STARTED, "live_not_started", "the stream is there, but sends nothing")
        .class(ErrorClass::Unavailable)
}
