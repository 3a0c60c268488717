//! Recordings that an address gives itself, fetched by our own client.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use fourmi_egress::{Client, Proxy};
use fourmi_media::sniff::{Sniffed, sniff};
use fourmi_model::Failure;
use fourmi_runtime::{Context, write_whole};
use reqwest::{
    Response, StatusCode,
    header::{
        ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderName,
        HeaderValue, IF_RANGE, LAST_MODIFIED, RANGE, RETRY_AFTER,
    },
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{Limits, cache::broken, failure};
use crate::stages::{Stage, Stages, Transfer};

/// So much is looked at before it is decided what an address gives.
const LOOK_BYTES: usize = 64 * 1024;

/// Times that a download that breaks off is taken up again in one run without a byte more; each byte counts anew.
const PATIENCE: u32 = 4;

/// What was fetched of a recording, and what makes sure that the rest is of the same: kept beside it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Part {
    /// Where redirects led.
    url: String,
    /// A strong `ETag`, or else `Last-Modified`: what `If-Range` needs. Without, a download starts over.
    validator: Option<String>,
    /// The size of the whole, if it was said.
    total: Option<u64>,
}

/// What an address gives.
pub(super) enum Given {
    /// A recording, fetched as a whole.
    Recording(Recording),
    /// Something that may show or name one: a page, a playlist, or a refusal that yt-dlp may get around.
    Other(Option<Failure>),
}

/// A file that was fetched.
pub(super) struct Recording {
    pub(super) url: String,
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

/// A small file that was fetched.
pub(crate) struct Small {
    /// Where redirects led.
    pub(crate) url: String,
    pub(crate) content: Vec<u8>,
}

/// What is needed to fetch.
pub(crate) struct Fetcher<'a> {
    pub(crate) client: &'a Client,
    pub(crate) proxy: &'a Proxy,
    pub(crate) limits: &'a Limits,
    pub(crate) context: &'a Context,
    pub(crate) stages: &'a Stages,
}

impl Fetcher<'_> {
    /// Looks at what `url` gives and, if that is a recording, fetches it to `path`. A part that an earlier run left there is
    /// continued.
    ///
    /// # Errors
    /// `cancelled`, and the codes of [`failure`].
    pub(super) async fn fetch(&self, url: &str, path: &Path) -> Result<Given, Failure> {
        let mut sink = Sink::open(path)?;
        if let Some(part) = sink.part.clone() {
            self.stages.enter(Stage::Download);
            return self.go_on(url, part, sink).await.map(Given::Recording);
        }
        let response = self.ask(url, 0, None).await?;
        if !response.status().is_success() {
            return refusal(&response).map(Given::Other);
        }
        self.stages.enter(Stage::Probe);
        let media_type = text(&response, CONTENT_TYPE).unwrap_or_default().to_ascii_lowercase();
        let is_plain = text(&response, CONTENT_ENCODING).is_none_or(|coding| coding.eq_ignore_ascii_case("identity"));
        let part = Part::of(&response);
        let mut body = Body { response, read: Vec::new(), broken: None };
        let start = self.look(&mut body).await?;
        let says_media =
            (media_type.starts_with("audio/") || media_type.starts_with("video/")) && !media_type.contains("mpegurl");
        if start.is_empty() {
            return Err(failure::empty());
        }
        match sniff(&start) {
            Sniffed::Recording if is_plain => {}
            // It calls itself a recording and is none: yt-dlp would believe it.
            Sniffed::Nothing(what) if says_media && is_plain => return Err(failure::unsupported(what)),
            _ => return Ok(Given::Other(None)),
        }
        self.stages.enter(Stage::Download);
        if part.total.is_some_and(|total| total > self.limits.max_bytes) {
            return Err(failure::size_exceeded(self.limits.max_bytes));
        }
        sink.begin(&part)?;
        let mut writer = sink.writer().await?;
        let end = self.pour(&mut body, &mut writer, &part).await;
        let written = writer.end().await?;
        match end? {
            Poured::Whole => Ok(Given::Recording(written.recording(part.url))),
            Poured::Broken(_) => self.go_on(url, part, sink).await.map(Given::Recording),
        }
    }

    /// Fetches a small file, such as a picture, or a part of a file: its first byte and the number of bytes.
    ///
    /// # Errors
    /// `cancelled`, `size_exceeded` if it is larger than `most`, and the codes of [`failure`].
    pub(crate) async fn fetch_small(
        &self,
        url: &str,
        range: Option<(u64, u64)>,
        most: usize,
    ) -> Result<Small, Failure> {
        let mut headers = plain_headers();
        if let Some((start, length)) = range {
            let last = start.saturating_add(length).saturating_sub(1);
            headers.extend(HeaderValue::from_str(&format!("bytes={start}-{last}")).map(|value| (RANGE, value)));
        }
        let response = self.send(url, &headers).await?;
        if !response.status().is_success() {
            return Err(failure::status(response.status().as_u16(), text(&response, RETRY_AFTER).as_deref()));
        }
        let skip = match range {
            // It gives the whole instead.
            Some((start, _)) if response.status() != StatusCode::PARTIAL_CONTENT => {
                usize::try_from(start).unwrap_or(most)
            }
            _ => 0,
        };
        let url = response.url().to_string();
        let mut body = Body { response, read: Vec::new(), broken: None };
        let mut content = Vec::new();
        while let Some(chunk) = self.chunk(&mut body).await?? {
            content.extend_from_slice(&chunk);
            if content.len() > most {
                return Err(failure::size_exceeded(most as u64));
            }
        }
        content.drain(..skip.min(content.len()));
        if let Some(length) = range.and_then(|(_, length)| usize::try_from(length).ok()) {
            content.truncate(length);
        }
        Ok(Small { url, content })
    }

    /// Takes a download up again, as often as it moves on.
    async fn go_on(&self, url: &str, mut part: Part, mut sink: Sink) -> Result<Recording, Failure> {
        let mut fruitless = 0;
        loop {
            let have = sink.bytes()?;
            let broken = match self.resume(url, &mut part, &mut sink, have).await? {
                Resumed::Whole(written) => return Ok(written.recording(part.url)),
                Resumed::Broken(failure) => failure,
            };
            fruitless = if sink.bytes()? > have { 0 } else { fruitless + 1 };
            if fruitless >= PATIENCE {
                return Err(broken);
            }
            tokio::select! {
                () = sleep(Duration::from_millis(200 << fruitless)) => {}
                () = self.context.cancelled() => return Err(Failure::cancelled()),
            }
        }
    }

    async fn resume(&self, url: &str, part: &mut Part, sink: &mut Sink, have: u64) -> Result<Resumed, Failure> {
        // Nobody could tell whether the rest is of the same recording.
        let from = if part.validator.is_some() { have } else { 0 };
        let response = match self.ask(url, from, part.validator.as_deref()).await {
            Ok(response) => response,
            Err(failure) if failure.report().retryable => return Ok(Resumed::Broken(failure)),
            Err(failure) => return Err(failure),
        };
        match response.status() {
            StatusCode::PARTIAL_CONTENT if range_start(&response) == Some(from) => {}
            // It had all of it already.
            StatusCode::RANGE_NOT_SATISFIABLE if from > 0 && range_total(&response) == Some(from) => {
                return Ok(Resumed::Whole(sink.writer().await?.end().await?));
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                sink.discard()?;
                return Ok(Resumed::Broken(failure::unreachable("it gives less than it did before")));
            }
            status if status.is_success() => {
                // Another version, or a host that cannot continue.
                *part = Part::of(&response);
                sink.begin(part)?;
            }
            _ => {
                let failure = refusal(&response)?;
                return match failure {
                    Some(failure) => Err(failure),
                    None => Err(failure::unsupported("the source does not give it any more")),
                };
            }
        }
        let mut writer = sink.writer().await?;
        let mut body = Body { response, read: Vec::new(), broken: None };
        let end = self.pour(&mut body, &mut writer, part).await;
        let written = writer.end().await?;
        Ok(match end? {
            Poured::Whole => Resumed::Whole(written),
            Poured::Broken(failure) => Resumed::Broken(failure),
        })
    }

    async fn ask(&self, url: &str, from: u64, validator: Option<&str>) -> Result<Response, Failure> {
        let mut headers = plain_headers();
        if let Some(validator) = validator.filter(|_| from > 0).and_then(|text| HeaderValue::from_str(text).ok()) {
            headers.insert(IF_RANGE, validator);
            if let Ok(range) = HeaderValue::from_str(&format!("bytes={from}-")) {
                headers.insert(RANGE, range);
            }
        }
        self.send(url, &headers).await
    }

    async fn send(&self, url: &str, headers: &HeaderMap) -> Result<Response, Failure> {
        let stall = self.limits.stall;
        let answer = tokio::select! {
            answer = timeout(stall, self.client.get(url, headers)) => answer,
            () = self.context.cancelled() => return Err(Failure::cancelled()),
        };
        let response =
            answer.map_err(|_| failure::timed_out(stall))?.map_err(|error| failure::fetch(&error, self.proxy))?;
        // The proxy answers in the place of a host that it does not connect to.
        match self.proxy.take_refusal() {
            Some(refusal) if matches!(response.status().as_u16(), 403 | 502) => Err(failure::egress(&refusal)),
            _ => Ok(response),
        }
    }

    /// The first bytes of a body, which keeps them.
    async fn look(&self, body: &mut Body) -> Result<Vec<u8>, Failure> {
        let mut start = Vec::new();
        while start.len() < LOOK_BYTES {
            match self.chunk(body).await? {
                Ok(Some(chunk)) => start.extend_from_slice(&chunk),
                // What is there is looked at; that the rest is missing shows later.
                Err(failure) if start.is_empty() => return Err(failure),
                Err(failure) => {
                    body.broken = Some(failure);
                    break;
                }
                Ok(None) => break,
            }
        }
        body.read.push(Bytes::from(start.clone()));
        Ok(start)
    }

    /// The next bytes of a body; `Ok(Err)` if the connection broke.
    async fn chunk(&self, body: &mut Body) -> Result<Result<Option<Bytes>, Failure>, Failure> {
        if let Some(read) = body.read.pop() {
            return Ok(Ok(Some(read)));
        }
        // Asked again, a broken connection would look like the end.
        if let Some(broken) = &body.broken {
            return Ok(Err(broken.clone()));
        }
        let stall = self.limits.stall;
        tokio::select! {
            chunk = timeout(stall, body.response.chunk()) => Ok(match chunk {
                Ok(chunk) => chunk.map_err(|error| failure::unreachable(cause(&error))),
                Err(_) => Err(failure::timed_out(stall)),
            }),
            () = self.context.cancelled() => Err(Failure::cancelled()),
        }
    }

    /// Writes a body to the end, and says how far it is.
    async fn pour(&self, body: &mut Body, writer: &mut Writer, part: &Part) -> Result<Poured, Failure> {
        let mut transfer = Transfer::start(writer.bytes, part.total);
        let (started, first) = (Instant::now(), writer.bytes);
        loop {
            let chunk = match self.chunk(body).await? {
                Ok(Some(chunk)) => chunk,
                Ok(None) if part.total.is_some_and(|total| writer.bytes < total) => {
                    return Ok(Poured::Broken(failure::unreachable("it ended before its end")));
                }
                // Without a length, the end of the connection is the end of the body.
                Ok(None) => return Ok(Poured::Whole),
                Err(failure) => return Ok(Poured::Broken(failure)),
            };
            writer.write(chunk).await?;
            if writer.bytes > self.limits.max_bytes {
                return Err(failure::size_exceeded(self.limits.max_bytes));
            }
            if transfer.is_due() {
                self.stages.transfer(&mut transfer, writer.bytes);
            }
            if let Some(rate) = self.limits.rate {
                let due = started + Duration::from_secs_f64((writer.bytes - first) as f64 / rate as f64);
                tokio::select! {
                    () = sleep_until(due) => {}
                    () = self.context.cancelled() => return Err(Failure::cancelled()),
                }
            }
        }
    }
}

fn plain_headers() -> HeaderMap {
    HeaderMap::from_iter([
        (ACCEPT, HeaderValue::from_static("*/*")),
        (ACCEPT_ENCODING, HeaderValue::from_static("identity")),
    ])
}

/// A body, and what was read of it ahead.
struct Body {
    response: Response,
    read: Vec<Bytes>,
    /// How it broke off, if that was seen.
    broken: Option<Failure>,
}

/// How a body ended.
enum Poured {
    Whole,
    Broken(Failure),
}

enum Resumed {
    Whole(Written),
    Broken(Failure),
}

impl Part {
    fn of(response: &Response) -> Self {
        // A weak validator does not promise equal bytes (RFC 9110, section 13.1.5).
        let strong = text(response, ETAG).filter(|tag| tag.starts_with('"'));
        Self {
            url: response.url().to_string(),
            validator: strong.or_else(|| text(response, LAST_MODIFIED)),
            total: response.content_length(),
        }
    }
}

/// What the status of a refusal means; `None` is left to yt-dlp, which looks more like a person to some sites.
fn refusal(response: &Response) -> Result<Option<Failure>, Failure> {
    let failure = failure::status(response.status().as_u16(), text(response, RETRY_AFTER).as_deref());
    match response.status().as_u16() {
        403 | 406 => Ok(Some(failure)),
        _ => Err(failure),
    }
}

fn text(response: &Response, name: HeaderName) -> Option<String> {
    response.headers().get(name)?.to_str().ok().map(str::to_owned)
}

/// The first byte of `Content-Range: bytes 5-9/10`.
fn range_start(response: &Response) -> Option<u64> {
    text(response, CONTENT_RANGE)?.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}

/// The size of `Content-Range: bytes */10`.
fn range_total(response: &Response) -> Option<u64> {
    text(response, CONTENT_RANGE)?.rsplit('/').next()?.trim().parse().ok()
}

fn cause(error: &reqwest::Error) -> String {
    let mut deepest: &dyn std::error::Error = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

/// The file that a recording is fetched to, with what is known of it beside.
struct Sink {
    path: PathBuf,
    note: PathBuf,
    part: Option<Part>,
}

impl Sink {
    fn open(path: &Path) -> Result<Self, Failure> {
        let note = path.with_extension("part.json");
        let part = fs::read(&note).ok().and_then(|text| serde_json::from_slice(&text).ok()).filter(|_| path.is_file());
        Ok(Self { path: path.to_owned(), note, part })
    }

    /// Starts over, with another body.
    fn begin(&mut self, part: &Part) -> Result<(), Failure> {
        let begin = || -> io::Result<()> {
            // The note goes first and comes last: it must never speak of other bytes.
            remove(&self.note)?;
            drop(File::create(&self.path)?);
            write_whole(&self.note, &serde_json::to_vec(part)?)
        };
        begin().map_err(|error| broken(&error))?;
        self.part = Some(part.clone());
        Ok(())
    }

    fn discard(&mut self) -> Result<(), Failure> {
        remove(&self.note).and_then(|()| File::create(&self.path).map(drop)).map_err(|error| broken(&error))
    }

    fn bytes(&self) -> Result<u64, Failure> {
        fs::metadata(&self.path).map(|metadata| metadata.len()).map_err(|error| broken(&error))
    }

    /// Goes on at the end of the file.
    async fn writer(&self) -> Result<Writer, Failure> {
        let path = self.path.clone();
        let (sender, receiver) = mpsc::channel(32);
        let bytes = self.bytes()?;
        let task = tokio::task::spawn_blocking(move || write(&path, receiver));
        Ok(Writer { bytes, sender, task })
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Writes and hashes on a thread of its own, so that the network need not wait.
struct Writer {
    bytes: u64,
    sender: mpsc::Sender<Bytes>,
    task: tokio::task::JoinHandle<io::Result<Written>>,
}

/// A file as it is on disk.
struct Written {
    bytes: u64,
    sha256: String,
}

impl Writer {
    async fn write(&mut self, chunk: Bytes) -> Result<(), Failure> {
        self.bytes += chunk.len() as u64;
        // Who does not take it any more has met an error, which `end` tells.
        match self.sender.send(chunk).await {
            Ok(()) => Ok(()),
            Err(_) => Err(Failure::retry("storage_failed", "the download could not be written")),
        }
    }

    async fn end(self) -> Result<Written, Failure> {
        drop(self.sender);
        let written = self.task.await.map_err(io::Error::other).and_then(|written| written);
        written.map_err(|error| broken(&error))
    }
}

impl Written {
    fn recording(self, url: String) -> Recording {
        Recording { url, bytes: self.bytes, sha256: self.sha256 }
    }
}

fn write(path: &Path, mut chunks: mpsc::Receiver<Bytes>) -> io::Result<Written> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let (mut hash, mut bytes) = hash_to_end(&mut file)?;
    file.seek(SeekFrom::End(0))?;
    while let Some(chunk) = chunks.blocking_recv() {
        file.write_all(&chunk)?;
        hash.update(&chunk);
        bytes += chunk.len() as u64;
    }
    Ok(Written { bytes, sha256: hex::encode(hash.finalize()) })
}

fn hash_to_end(file: &mut File) -> io::Result<(Sha256, u64)> {
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((hash, bytes)),
            read => {
                hash.update(&buffer[..read]);
                bytes += read as u64;
            }
        }
    }
}

/// The SHA-256 and the size of a file.
pub(super) fn digest(path: &Path) -> io::Result<(u64, String)> {
    let (hash, bytes) = hash_to_end(&mut File::open(path)?)?;
    Ok((bytes, hex::encode(hash.finalize())))
}
