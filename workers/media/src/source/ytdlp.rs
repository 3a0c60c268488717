//! Recordings that a page shows, or a playlist or manifest names: found and fetched by yt-dlp.
//!
//! It runs without a shell, its own configuration, a cache, `ffmpeg` or an environment, and reaches the world through the
//! proxy alone. That it ends well proves nothing: what it fetched is looked at.

use std::{
    collections::{BTreeMap, VecDeque},
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use fourmi_kinds::Chapter;
use fourmi_model::{ErrorClass, Failure, ParkReason};
use fourmi_runtime::{Context, Program, RunningProgram};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader},
    time::timeout,
};

use super::{Limits, Page, failure};
use crate::stages::{Stages, Transfer};

/// The longest line that is read: the description of a recording with all its formats.
const LONGEST_LINE: u64 = 32 * 1024 * 1024;

/// Where it reads the address of the proxy, with its password.
const PROXY_FILE: &str = "proxy.conf";

/// Where it reads cookies.
const COOKIES_FILE: &str = "cookies.txt";

/// Lines of standard error that are kept.
const LAST_LINES: usize = 40;

/// yt-dlp, for one job.
pub(super) struct YtDlp<'a> {
    pub(super) program: &'a Path,
    /// In Netscape's form.
    pub(super) cookies: Option<String>,
    pub(super) proxy: String,
    pub(super) folder: &'a Path,
    pub(super) limits: &'a Limits,
    pub(super) context: &'a Context,
    pub(super) stages: &'a Stages,
}

/// A note of what was found is used again for so long, by a run that follows one that was killed.
const NOTE_LIFE: Duration = Duration::from_secs(3600);

/// A recording that was found.
#[derive(Serialize, Deserialize)]
pub(super) struct Found {
    /// All that yt-dlp knows of it, for the download.
    description: Value,
    /// What names it, whatever its address.
    pub(super) canonical_id: String,
    /// What its page says of it.
    pub(super) page: Page,
    /// How many recordings the page shows beside it.
    pub(super) others: usize,
}

impl YtDlp<'_> {
    /// Finds the recording of a page.
    ///
    /// # Errors
    /// `cancelled`, `not_configured`, and the codes of [`failure`].
    pub(super) async fn find(&self, url: &str) -> Result<Found, Failure> {
        let program = self.program()?.args(["--dump-single-json", "--playlist-items", "1", "--no-playlist"]);
        // What can be had in one piece: sound alone, or else with its film.
        let program = program.args(["--format", "bestaudio/best", "--", url]);
        let mut answer = String::new();
        self.run(program, |line| {
            if line.starts_with('{') {
                line.clone_into(&mut answer);
            }
        })
        .await?;
        let description: Value = serde_json::from_str(&answer)
            .map_err(|error| Failure::retry("source_failed", "yt-dlp said nothing of the recording").because(error))?;
        self.judge(url, description)
    }

    /// Fetches what was found; gives the path of the file, which is in the folder. What an earlier run left there is
    /// continued.
    ///
    /// # Errors
    /// `cancelled`, and the codes of [`failure`].
    pub(super) async fn fetch(&self, found: &Found) -> Result<PathBuf, Failure> {
        write_json(&self.folder.join("description.json"), &found.description)?;
        let most = self.limits.max_bytes.to_string();
        let mut program = self
            .program()?
            .args(["--load-info-json", "description.json", "--format", "bestaudio/best"])
            .args(["--newline", "--progress", "--progress-delta", "0.2"])
            .args(["--progress-template", "download:PROGRESS %(progress)j"])
            .args(["--print", "after_move:FILE %(filepath)j", "--no-simulate", "--quiet"])
            .args(["--continue", "--no-mtime", "--no-overwrites", "--fixup", "never", "--max-filesize", &most])
            // A recording with holes is not what was asked for.
            .args(["--abort-on-unavailable-fragments", "--output", "media.%(ext)s"])
            // A file that its host lies about ends here.
            .largest_file(self.limits.max_bytes.saturating_add(64 * 1024 * 1024));
        if let Some(rate) = self.limits.rate {
            program = program.args(["--limit-rate", &rate.to_string()]);
        }
        let mut file = None;
        let mut transfer: Option<Transfer> = None;
        let mut too_large = false;
        self.run(program, |line| {
            if let Some(text) = line.strip_prefix("PROGRESS ") {
                let Ok(progress) = serde_json::from_str::<Downloaded>(text) else { return };
                let bytes = progress.downloaded_bytes.unwrap_or(0.0) as u64;
                // What an earlier run has fetched is no speed of this one.
                let transfer = transfer.get_or_insert_with(|| Transfer::start(bytes, None));
                transfer.set_total(progress.total());
                too_large |= bytes > self.limits.max_bytes;
                if transfer.is_due() {
                    self.stages.transfer(transfer, bytes);
                }
            } else if let Some(text) = line.strip_prefix("FILE ") {
                file = serde_json::from_str::<PathBuf>(text).ok();
            }
        })
        .await
        .map_err(|failure| if too_large { failure::size_exceeded(self.limits.max_bytes) } else { failure })?;
        let file = file.map(|file| self.folder.join(file)).filter(|file| file.is_file());
        match file {
            Some(file) if file.metadata().is_ok_and(|metadata| metadata.len() > self.limits.max_bytes) => {
                Err(failure::size_exceeded(self.limits.max_bytes))
            }
            Some(file) => Ok(file),
            // It says so only in passing that it leaves a file that is too large where it is.
            None => Err(failure::size_exceeded(self.limits.max_bytes)),
        }
    }

    fn program(&self) -> Result<Program, Failure> {
        let program = which(self.program).ok_or_else(|| {
            let message = format!(
                "yt-dlp is needed for pages and playlists, and {} is not there: run scripts/setup, or set FOURMI_YTDLP",
                self.program.display()
            );
            Failure::park(ParkReason::NotConfigured, message)
        })?;
        // In a file, because everybody can read the arguments of a process.
        let conf = format!("--proxy {}\n", self.proxy);
        let written = fourmi_runtime::write_whole(&self.folder.join(PROXY_FILE), conf.as_bytes());
        written.map_err(|error| super::cache::broken(&error))?;
        // Written anew each time, for yt-dlp writes into it; gone when it ends.
        if let Some(cookies) = &self.cookies {
            let written = fourmi_runtime::write_whole(&self.folder.join(COOKIES_FILE), cookies.as_bytes());
            written.map_err(|error| super::cache::broken(&error))?;
        }
        let cookies: &[&str] = if self.cookies.is_some() { &["--cookies", COOKIES_FILE] } else { &[] };
        let seconds = format!("{:.1}", self.limits.stall.as_secs_f64());
        Ok(self
            .context
            .program(&program, self.folder)
            .env("HOME", self.folder)
            .env("TMPDIR", self.folder)
            .env("LANG", "C.UTF-8")
            // Nothing to be found: helpers that it would start might outlive it.
            .env("PATH", self.folder.join("no-programs"))
            .args(["--ignore-config", "--no-cache-dir", "--no-colors", "--no-exec", "--no-warnings"])
            .args(["--restrict-filenames", "--no-playlist", "--no-plugin-dirs", "--no-remote-components"])
            .args(["--downloader", "native", "--hls-use-mpegts"])
            .args([
                "--socket-timeout",
                &seconds,
                "--retries",
                "3",
                "--fragment-retries",
                "3",
                "--extractor-retries",
                "1",
            ])
            .args(["--config-locations", PROXY_FILE])
            .args(cookies))
    }

    /// Runs it to its end, line by line.
    async fn run(&self, program: Program, line: impl FnMut(&str)) -> Result<(), Failure> {
        let ended = self.follow(program, line).await;
        // What is not there need not be removed.
        let _ = fs::remove_file(self.folder.join(COOKIES_FILE));
        ended
    }

    async fn follow(&self, program: Program, mut line: impl FnMut(&str)) -> Result<(), Failure> {
        let mut program = program.start().map_err(|error| {
            Failure::retry("spawn_failed", "yt-dlp could not be started").class(ErrorClass::Internal).because(error)
        })?;
        let errors = tokio::spawn(last_lines(program.stderr()));
        let mut output = program.stdout().map(BufReader::new);
        let mut read = Vec::new();
        // Silence is judged by it itself, except where it waits for nothing at all.
        let patience = self.limits.stall * 8;
        while let Some(output) = &mut output {
            read.clear();
            let mut limited = (&mut *output).take(LONGEST_LINE);
            let next = tokio::select! {
                next = timeout(patience, limited.read_until(b'\n', &mut read)) => Some(next),
                () = self.context.cancelled() => None,
            };
            match next {
                None => return Err(stopped(program, Failure::cancelled()).await),
                Some(Err(_)) => return Err(stopped(program, failure::timed_out(patience)).await),
                Some(Ok(Ok(1..))) => line(String::from_utf8_lossy(&read).trim_end()),
                Some(Ok(_)) => break,
            }
        }
        let status = tokio::select! {
            status = program.wait() => status,
            () = self.context.cancelled() => return Err(stopped(program, Failure::cancelled()).await),
        };
        let errors = errors.await.unwrap_or_default();
        match status {
            Ok(status) if status.success() => Ok(()),
            _ => Err(failure::ytdlp(&self.without_secrets(&errors))),
        }
    }

    fn without_secrets(&self, text: &str) -> String {
        text.replace(&self.proxy, "the proxy")
    }

    fn judge(&self, url: &str, mut description: Value) -> Result<Found, Failure> {
        let mut others = 0;
        if description["_type"] == "playlist" {
            let count = description["playlist_count"].as_u64().unwrap_or(1);
            let page = (description["title"].take(), description["webpage_url"].take());
            let entry = description["entries"]
                .as_array_mut()
                .and_then(|entries| (!entries.is_empty()).then(|| entries.remove(0)));
            description =
                entry.filter(Value::is_object).ok_or_else(|| failure::unsupported("its playlist is empty"))?;
            others = usize::try_from(count.saturating_sub(1)).unwrap_or(0);
            for (name, value) in [("title", page.0), ("webpage_url", page.1)] {
                if description[name].is_null() {
                    description[name] = value;
                }
            }
        }
        let known: Known = serde_json::from_value(description.clone()).map_err(|error| {
            Failure::retry("source_failed", "yt-dlp speaks of the recording in an unknown way").because(error)
        })?;
        known.check(self.limits)?;
        Ok(Found { canonical_id: known.canonical_id(url), page: known.page(), description, others })
    }
}

impl Found {
    const NOTE: &'static str = "found.json";

    /// What an earlier run found, if it is not too old.
    pub(super) fn noted(folder: &Path) -> Option<Self> {
        let path = folder.join(Self::NOTE);
        let age = SystemTime::now().duration_since(fs::metadata(&path).ok()?.modified().ok()?).unwrap_or_default();
        (age < NOTE_LIFE).then(|| serde_json::from_slice(&fs::read(&path).ok()?).ok()).flatten()
    }

    /// Notes it for the next run.
    pub(super) fn note(&self, folder: &Path) -> Result<(), Failure> {
        write_json(&folder.join(Self::NOTE), self)
    }
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_vec(value).map_err(io::Error::from);
    text.and_then(|text| fourmi_runtime::write_whole(path, &text)).map_err(|error| super::cache::broken(&error))
}

async fn stopped(program: RunningProgram, failure: Failure) -> Failure {
    program.stop().await;
    failure
}

/// Where a program is: at a path, or in one of the folders of the worker's `PATH`, which a run does not have.
fn which(program: &Path) -> Option<PathBuf> {
    if program.components().count() > 1 {
        return program.is_file().then(|| program.to_owned());
    }
    ["/usr/local/bin", "/usr/bin", "/bin"]
        .iter()
        .map(|folder| Path::new(folder).join(program))
        .find(|path| path.is_file())
}

async fn last_lines(stderr: Option<impl AsyncRead + Unpin>) -> String {
    let mut lines = VecDeque::new();
    let Some(stderr) = stderr else { return String::new() };
    let mut reader = BufReader::new(stderr);
    let mut line = Vec::new();
    while let Ok(1..) = (&mut reader).take(8 * 1024).read_until(b'\n', &mut line).await {
        if lines.len() == LAST_LINES {
            lines.pop_front();
        }
        lines.push_back(String::from_utf8_lossy(&line).trim_end().to_owned());
        line.clear();
    }
    Vec::from(lines).join("\n")
}

/// A line of progress. Numbers may be missing, or be no whole ones.
#[derive(Debug, Default, Deserialize)]
struct Downloaded {
    downloaded_bytes: Option<f64>,
    total_bytes: Option<f64>,
    total_bytes_estimate: Option<f64>,
}

impl Downloaded {
    fn total(&self) -> Option<u64> {
        self.total_bytes.or(self.total_bytes_estimate).map(|bytes| bytes as u64)
    }
}

/// What is used of what yt-dlp knows.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Known {
    id: Option<String>,
    extractor_key: Option<String>,
    url: Option<String>,
    webpage_url: Option<String>,
    title: Option<String>,
    description: Option<String>,
    uploader: Option<String>,
    channel: Option<String>,
    artist: Option<String>,
    album: Option<String>,
    series: Option<String>,
    genre: Option<String>,
    language: Option<String>,
    upload_date: Option<String>,
    duration: Option<f64>,
    filesize: Option<f64>,
    filesize_approx: Option<f64>,
    thumbnail: Option<String>,
    chapters: Option<Vec<KnownChapter>>,
    live_status: Option<String>,
    is_live: Option<bool>,
    release_timestamp: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct KnownChapter {
    start_time: f64,
    end_time: f64,
    #[serde(default)]
    title: Option<String>,
}

impl Known {
    /// Whether it can be fetched.
    fn check(&self, limits: &Limits) -> Result<(), Failure> {
        match self.live_status.as_deref() {
            Some("is_upcoming") => return Err(self.not_started()),
            Some("post_live") => {
                let wait = Duration::from_secs(600);
                let message = "the broadcast is over, and its recording is not ready yet";
                return Err(Failure::retry_after(wait, "live_processing", message).class(ErrorClass::Unavailable));
            }
            Some("is_live") => return Err(live()),
            _ if self.is_live == Some(true) => return Err(live()),
            _ => {}
        }
        let most_ms = limits.max_duration_ms;
        if self.duration.is_some_and(|seconds| seconds * 1_000.0 > most_ms as f64) {
            return Err(failure::duration_exceeded(most_ms));
        }
        if self
            .filesize
            .or(self.filesize_approx.map(|bytes| bytes * 0.8))
            .is_some_and(|bytes| bytes > limits.max_bytes as f64)
        {
            return Err(failure::size_exceeded(limits.max_bytes));
        }
        Ok(())
    }

    fn not_started(&self) -> Failure {
        let Some(at) = self.release_timestamp.and_then(|at| jiff::Timestamp::from_second(at as i64).ok()) else {
            return Failure::retry("live_not_started", "the broadcast has not started; nobody says when it does");
        };
        let wait = Duration::try_from(at.duration_since(jiff::Timestamp::now())).unwrap_or_default();
        let message = format!("the broadcast starts at {at}");
        Failure::retry_after(wait, "live_not_started", message).class(ErrorClass::Unavailable)
    }

    /// Sites give an id to each recording. The generic extractor takes a part of the address, which others share: there the
    /// address of the recording itself counts.
    fn canonical_id(&self, url: &str) -> String {
        let site = self.extractor_key.as_deref().unwrap_or("generic").to_lowercase();
        match &self.id {
            Some(id) if site != "generic" && site != "html5mediaembed" => format!("{site}:{id}"),
            _ => format!("http:{}", self.url.as_deref().or(self.webpage_url.as_deref()).unwrap_or(url)),
        }
    }

    fn page(&self) -> Page {
        // Of any page, the generic extractor calls the host the uploader and the file's time the date.
        let is_site = self.extractor_key.as_deref().is_some_and(|site| !site.eq_ignore_ascii_case("generic"));
        let date = self
            .upload_date
            .as_deref()
            .filter(|_| is_site)
            .filter(|date| date.len() == 8 && date.bytes().all(|c| c.is_ascii_digit()));
        let date = date.map(|date| format!("{}-{}-{}", &date[..4], &date[4..6], &date[6..]));
        let uploader = self.artist.clone().or(self.uploader.clone()).or(self.channel.clone()).filter(|_| is_site);
        let tags = [
            ("title", self.title.clone()),
            ("artist", uploader.clone()),
            ("album", self.album.clone().or(self.series.clone())),
            ("date", date.clone()),
            ("genre", self.genre.clone()),
            ("language", self.language.clone()),
            ("description", self.description.as_deref().map(|text| text.chars().take(4_000).collect())),
            ("comment", self.webpage_url.clone()),
        ];
        let tags: BTreeMap<_, _> = tags
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?.replace('\0', ""))))
            .filter(|(_, value)| !value.trim().is_empty())
            .collect();
        Page {
            url: self.webpage_url.clone(),
            title: self.title.clone(),
            uploader,
            date,
            tags,
            chapters: self.chapters.iter().flatten().take(2_000).filter_map(KnownChapter::read).collect(),
            picture_url: self.thumbnail.clone(),
            picture: None,
        }
    }
}

fn live() -> Failure {
    let message = "this is on the air; audio.live records broadcasts until they end";
    Failure::permanent("is_live", message).class(ErrorClass::Unsupported)
}

impl KnownChapter {
    fn read(&self) -> Option<Chapter> {
        let ms = |seconds: f64| (seconds.is_finite() && seconds >= 0.0).then(|| (seconds * 1_000.0).round() as u64);
        let (start_ms, end_ms) = (ms(self.start_time)?, ms(self.end_time)?);
        let title = self.title.clone().unwrap_or_default().chars().take(500).collect();
        (start_ms < end_ms).then_some(Chapter { start_ms, end_ms, title })
    }
}
