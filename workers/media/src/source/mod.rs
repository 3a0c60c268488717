//! Where recordings come from: uploads, and addresses of all sorts.
//!
//! An address is looked at by our own client first. If it gives a recording, that is fetched in the same breath; whatever
//! else it gives is work for yt-dlp. Both go through the guard of `fourmi-egress`, and both continue what an earlier run
//! left.

mod cache;
mod direct;
mod failure;
mod web;
mod ytdlp;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use cache::{Cache, Complete, Entry, Shared};
pub(crate) use direct::Fetcher;
use direct::Given;
use fourmi_kinds::{AudioExtract, Chapter, MediaNote, SourceInfo};
use fourmi_model::{Failure, LogLevel};
use fourmi_runtime::{Context, Kept};
use fourmi_settings::Media;
use serde::{Deserialize, Serialize};
pub(crate) use web::Web;
use ytdlp::{Found, YtDlp};

pub(crate) use cache::{Held, hash, hold, is_held};

use crate::stages::{Stage, Stages};

/// The largest picture that is fetched.
const LARGEST_PICTURE: usize = 20 * 1024 * 1024;

/// What may be fetched.
pub(crate) struct Limits {
    pub(crate) max_bytes: u64,
    pub(crate) max_duration_ms: u64,
    /// Bytes a second.
    pub(crate) rate: Option<u64>,
    pub(crate) stall: Duration,
}

impl Limits {
    /// The operator's limits.
    pub(crate) fn of_operator(settings: &Media) -> Self {
        let longest = u64::try_from(fourmi_media::audio::MAX_DURATION.as_millis()).unwrap_or(u64::MAX);
        Self {
            max_bytes: settings.max_bytes,
            max_duration_ms: longest,
            rate: settings.rate_limit,
            stall: settings.stall,
        }
    }

    /// The operator's limits, or those of a request where they are narrower.
    fn of(request: &AudioExtract, settings: &Media) -> Self {
        let most = Self::of_operator(settings);
        Self {
            max_bytes: request.max_bytes.unwrap_or(u64::MAX).min(most.max_bytes),
            max_duration_ms: request.max_duration_ms.unwrap_or(u64::MAX).min(most.max_duration_ms),
            rate: [request.rate_limit, most.rate].into_iter().flatten().min(),
            stall: most.stall,
        }
    }
}

/// What the page of a recording says of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Page {
    pub(crate) url: Option<String>,
    pub(crate) title: Option<String>,
    pub(crate) uploader: Option<String>,
    pub(crate) date: Option<String>,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) chapters: Vec<Chapter>,
    pub(crate) picture_url: Option<String>,
    /// The name of the picture's file beside the recording, once it was fetched.
    pub(crate) picture: Option<String>,
}

/// A recording that is here.
pub(crate) struct Recording {
    pub(crate) path: PathBuf,
    /// A name for files that are made of it, without an ending.
    pub(crate) name: String,
    pub(crate) sha256: String,
    pub(crate) page: Page,
    pub(crate) picture: Option<PathBuf>,
    pub(crate) info: Option<SourceInfo>,
    pub(crate) notes: Vec<MediaNote>,
    /// Keeps a download from being evicted.
    _shared: Option<Shared>,
}

impl Recording {
    /// A stored file.
    pub(crate) fn stored(path: PathBuf, name: &str, sha256: String) -> Self {
        let stem = Path::new(name).file_stem().and_then(|stem| stem.to_str()).unwrap_or("audio");
        Self {
            path,
            name: stem.to_owned(),
            sha256,
            page: Page::default(),
            picture: None,
            info: None,
            notes: Vec::new(),
            _shared: None,
        }
    }
}

/// An address without what makes no difference.
pub(crate) fn normal(url: &str) -> String {
    let Ok(mut url) = reqwest::Url::parse(url) else { return url.to_owned() };
    url.set_fragment(None);
    url.to_string()
}

/// Fetches recordings for one job.
pub(crate) struct Source<'a> {
    pub(crate) url: &'a str,
    pub(crate) request: &'a AudioExtract,
    pub(crate) settings: &'a Media,
    pub(crate) context: &'a Context,
    pub(crate) stages: &'a Stages,
    /// The job's own folder, for downloads that others must not use.
    pub(crate) kept: &'a Path,
}

impl Source<'_> {
    /// Fetches the recording, or finds that it is here already.
    ///
    /// # Errors
    /// `cancelled`, and the codes of [`failure`].
    pub(crate) async fn fetch(&self) -> Result<Recording, Failure> {
        let Some(fresh) = self.settings.reuse.filter(|_| self.request.reuse) else {
            let entry = Entry::private(self.kept.join("download"))?;
            return match entry.complete() {
                Some(complete) => self.recording(entry, complete, Vec::new()),
                None => self.fill(entry, None).await,
            };
        };
        let cache = Cache::open(self.context.cache()?, fresh, self.settings.cache_bytes)?;
        cache.tidy();
        // What was fetched with a login is not for those without it.
        let login = self.request.cookies_ref.as_deref();
        let key = hash(&format!("{} {}", normal(self.url), login.unwrap_or_default()));
        let entry = self.lock(&cache, &key).await?;
        match cache.complete(&entry) {
            Some(complete) => {
                self.context.log(LogLevel::Info, "the recording was fetched before, and is taken from there");
                self.recording(entry, complete, Vec::new())
            }
            None => {
                if entry.complete().is_some() {
                    // Too old: what is beside it is of that time, too.
                    entry.clear()?;
                }
                self.fill(entry, login.is_none().then_some((&cache, &*key))).await
            }
        }
    }

    fn limits(&self) -> Limits {
        Limits::of(self.request, self.settings)
    }

    async fn lock(&self, cache: &Cache, key: &str) -> Result<Entry, Failure> {
        let waiting = || self.stages.say(0.0, "another job is fetching this recording");
        cache.lock(key, self.context, waiting).await
    }

    /// Fetches into an entry.
    async fn fill(&self, entry: Entry, cache: Option<(&Cache, &str)>) -> Result<Recording, Failure> {
        let web = Web::open(self.settings, self.limits()).await?;
        let noted = Found::noted(&entry.folder);
        let mut refused = None;
        // Where a login is needed our own client has nothing to show.
        if noted.is_none() && self.request.cookies_ref.is_none() {
            let fetcher = web.fetcher(self.context, self.stages);
            match fetcher.fetch(self.url, &entry.folder.join("media")).await? {
                Given::Recording(recording) => {
                    let canonical_id = format!("http:{}", normal(&recording.url));
                    if let Some((cache, key)) = cache {
                        // Others that lead here find it.
                        cache.owner(&canonical_id, key)?;
                    }
                    let (bytes, sha256) = (recording.bytes, recording.sha256);
                    self.context.log(LogLevel::Info, format!("the address is that of a recording of {bytes} bytes"));
                    let complete = Complete::new("media".to_owned(), bytes, sha256, canonical_id, Page::default());
                    entry.set_complete(&complete)?;
                    return self.recording(entry, complete, Vec::new());
                }
                Given::Other(failure) => {
                    self.context.log(LogLevel::Info, "the address is not that of a recording; yt-dlp looks for one");
                    refused = failure;
                }
            }
        }
        self.fill_by_ytdlp(entry, cache, &web, noted, refused.as_ref()).await
    }

    /// Lets yt-dlp find and fetch the recording; `noted` is what an earlier run found, `refused` how our own client was
    /// turned away.
    async fn fill_by_ytdlp(
        &self,
        entry: Entry,
        cache: Option<(&Cache, &str)>,
        web: &Web,
        noted: Option<Found>,
        refused: Option<&Failure>,
    ) -> Result<Recording, Failure> {
        let cookies = match &self.request.cookies_ref {
            Some(name) => Some(self.context.secret(name).await?),
            None => None,
        };
        let ytdlp = YtDlp {
            cookies,
            program: &self.settings.ytdlp,
            proxy: web.proxy.url(),
            folder: &entry.folder,
            limits: &web.limits,
            context: self.context,
            stages: self.stages,
        };
        // It only sees that the proxy refused; the proxy knows why.
        let explain = |failure: Failure| match web.proxy.take_refusal() {
            Some(refusal) if failure::may_be_egress(&failure) => failure::egress(&refusal),
            _ => match refused {
                // Both were refused; the client knows how.
                Some(refused) if failure.code == "forbidden_by_source" => refused.clone(),
                _ => failure,
            },
        };
        let find = async || {
            self.stages.say(50.0, "looking for a recording");
            let found = ytdlp.find(self.url).await.map_err(explain)?;
            found.note(&entry.folder)?;
            Ok::<_, Failure>(found)
        };
        let is_noted = noted.is_some();
        let mut found = match noted {
            Some(found) => found,
            None => find().await?,
        };
        if let Some((cache, key)) = cache
            && let Some(recording) = self.elsewhere(cache, key, &found).await?
        {
            return Ok(recording);
        }
        self.stages.enter(Stage::Download);
        let mut fetched = ytdlp.fetch(&found).await.map_err(explain);
        if is_noted
            && let Err(failure) = &fetched
            && failure.code != "cancelled"
        {
            let text =
                format!("what an earlier run found cannot be fetched any more ({}); looking again", failure.code);
            self.context.log(LogLevel::Warn, text);
            // Addresses of recordings run out: what was noted may be too old.
            found = find().await?;
            fetched = ytdlp.fetch(&found).await.map_err(explain);
        }
        let file = fetched?;
        let mut page = found.page;
        if let Some(url) = &page.picture_url
            && let Ok(picture) = web.fetcher(self.context, self.stages).fetch_small(url, None, LARGEST_PICTURE).await
            && fourmi_runtime::write_whole(&entry.folder.join("picture"), &picture.content).is_ok()
        {
            page.picture = Some("picture".to_owned());
        }
        let media = file.file_name().and_then(|name| name.to_str()).unwrap_or("media").to_owned();
        let hashed = tokio::task::spawn_blocking(move || direct::digest(&file)).await;
        let hashed = hashed.map_err(std::io::Error::other).and_then(|hashed| hashed);
        let (bytes, sha256) = hashed.map_err(|error| cache::broken(&error))?;
        let complete = Complete::new(media, bytes, sha256, found.canonical_id, page);
        entry.set_complete(&complete)?;
        let mut notes = Vec::new();
        if found.others > 0 {
            let message = format!("the page shows {} more recordings; the first was taken", found.others);
            self.context.log(LogLevel::Warn, &message);
            notes.push(MediaNote { code: "first_of_several".to_owned(), message });
        }
        self.recording(entry, complete, notes)
    }

    /// The recording of an id, if another address led to it before.
    async fn elsewhere(&self, cache: &Cache, key: &str, found: &Found) -> Result<Option<Recording>, Failure> {
        let owner = cache.owner(&found.canonical_id, key)?;
        if owner == key {
            return Ok(None);
        }
        let entry = self.lock(cache, &owner).await?;
        match cache.complete(&entry) {
            Some(mut complete) => {
                // This page may speak of it in other words.
                complete.page = Page { picture: complete.page.picture.take(), ..found.page.clone() };
                self.recording(entry, complete, Vec::new()).map(Some)
            }
            None => Ok(None),
        }
    }

    fn recording(&self, entry: Entry, complete: Complete, notes: Vec<MediaNote>) -> Result<Recording, Failure> {
        let Complete { media, bytes, sha256, canonical_id, page, .. } = complete;
        // Whoever fetched it may have had wider limits.
        let limits = self.limits();
        if bytes > limits.max_bytes {
            return Err(failure::size_exceeded(limits.max_bytes));
        }
        let info = SourceInfo {
            url: self.url.to_owned(),
            canonical_id,
            page: page.url.clone(),
            title: page.title.clone(),
            uploader: page.uploader.clone(),
            date: page.date.clone(),
            bytes,
            sha256: sha256.clone(),
        };
        Ok(Recording {
            path: entry.folder.join(media),
            name: page.title.clone().unwrap_or_else(|| name_in(self.url)),
            sha256,
            picture: page.picture.as_ref().map(|name| entry.folder.join(name)),
            page,
            info: Some(info),
            notes,
            _shared: Some(entry.share()?),
        })
    }

    /// Forgets a download that turned out to be no recording, so that the next request looks again.
    pub(crate) fn forget(recording: Recording) {
        let folder = recording.path.parent().map(Path::to_owned);
        drop(recording);
        if let Some(folder) = folder {
            // Whoever uses it meanwhile finds out for himself.
            let _ = std::fs::remove_file(folder.join("entry.json"));
        }
    }
}

/// The last part of an address's path, without its ending.
fn name_in(url: &str) -> String {
    let url = reqwest::Url::parse(url).ok();
    let last = url.as_ref().and_then(|url| url.path_segments()?.rfind(|part| !part.is_empty()).map(str::to_owned));
    let last = last.map(|name| percent_encoding::percent_decode_str(&name).decode_utf8_lossy().into_owned());
    let name = last.or_else(|| url?.host_str().map(str::to_owned)).unwrap_or_default();
    match name.rsplit_once('.') {
        Some((stem, ending)) if !stem.is_empty() && ending.len() <= 5 => stem.to_owned(),
        _ => name,
    }
}

/// Where a job without a folder of its own keeps things: nowhere for long.
pub(crate) fn folder_of<'a>(kept: Option<&'a Kept>, context: &'a Context) -> Result<&'a Path, Failure> {
    match kept {
        Some(kept) => Ok(kept.folder()),
        None => context.scratch(),
    }
}
