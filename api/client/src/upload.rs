//! Sending a file: streamed, and checked when it has arrived.

use std::{
    io,
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use reqwest::{Body, Method, header};
use sha2::{Digest, Sha256};
use tokio::{fs::File, io::AsyncRead, io::AsyncReadExt};
use tokio_util::io::ReaderStream;

use crate::{Client, ClientError, StoredFile, resumable::Sending};

/// Large enough that a fast disk is not read in crumbs.
const CHUNK_BYTES: usize = 256 * 1024;

type Reader = Pin<Box<dyn AsyncRead + Send>>;
pub(crate) type OnProgress = Arc<dyn Fn(u64) + Send + Sync>;

enum Source {
    Path(std::path::PathBuf),
    Reader { reader: Reader, bytes: Option<u64> },
}

/// A file about to be sent. Nothing is sent before [`send`](Self::send).
#[must_use = "a file is sent by send()"]
pub struct Upload {
    client: Client,
    source: Source,
    name: Option<String>,
    resumable: bool,
    on_progress: OnProgress,
}

/// What has been read of the file.
#[derive(Default)]
pub(crate) struct Seen {
    bytes: u64,
    hash: Sha256,
}

impl Seen {
    /// Adds a chunk that begins at `at`, where it was not seen yet.
    fn add(&mut self, at: u64, chunk: &[u8]) {
        let known = usize::try_from(self.bytes.saturating_sub(at)).unwrap_or(usize::MAX);
        if let Some(new) = chunk.get(known..) {
            self.hash.update(new);
            self.bytes += new.len() as u64;
        }
    }
}

impl Client {
    /// The file at `path`, to be stored under its own name.
    pub fn upload(&self, path: &Path) -> Upload {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        self.upload_of(Source::Path(path.to_owned()), name)
    }

    /// What `reader` gives, to be stored under `name`; `bytes` is its length, if it is known.
    pub fn upload_reader(&self, reader: impl AsyncRead + Send + 'static, bytes: Option<u64>, name: &str) -> Upload {
        let source = Source::Reader { reader: Box::pin(reader), bytes };
        self.upload_of(source, Some(name.to_owned()))
    }

    fn upload_of(&self, source: Source, name: Option<String>) -> Upload {
        Upload { client: self.clone(), source, name, resumable: false, on_progress: Arc::new(|_| ()) }
    }
}

impl Upload {
    /// Stores the file under this name instead.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Goes on where it was when the connection breaks or the API is away for a while, as long as two minutes. Only a file
    /// can be read again from there: for a reader this changes nothing.
    pub fn resumable(mut self) -> Self {
        self.resumable = true;
        self
    }

    /// Calls `f` with the number of bytes sent so far, whenever some more are. It goes back when bytes were lost on their
    /// way and are sent again.
    pub fn on_progress(mut self, f: impl Fn(u64) + Send + Sync + 'static) -> Self {
        self.on_progress = Arc::new(f);
        self
    }

    /// Sends the file.
    ///
    /// # Errors
    /// [`ClientError::File`] if it cannot be read; `file_too_large`, `disk_full`; [`ClientError::Damaged`] if what
    /// arrived is not what was sent.
    pub async fn send(self) -> Result<StoredFile, ClientError> {
        let name = self.name.clone().unwrap_or_else(|| "file".to_owned());
        let seen = Arc::new(Mutex::new(Seen::default()));
        let stored = self.send_under(&name, &seen).await?;
        let seen = std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));
        let expected = hex::encode(seen.hash.finalize());
        if stored.sha256 == expected {
            Ok(stored)
        } else {
            Err(ClientError::Damaged { what: name, expected, found: stored.sha256 })
        }
    }

    async fn send_under(self, name: &str, seen: &Arc<Mutex<Seen>>) -> Result<StoredFile, ClientError> {
        let (client, on_progress, seen) = (self.client, self.on_progress, Arc::clone(seen));
        if let (true, Source::Path(path)) = (self.resumable, &self.source)
            && let Some(bytes) = length(path).await?
        {
            return Sending { client: &client, path, name, bytes, seen, on_progress }.send().await;
        }
        let (reader, bytes) = open(self.source).await?;
        let body = observed(reader, seen, 0, on_progress);
        let mut request = client
            .request(Method::POST, ["files"])
            .query(&[("name", name)])
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .body(Body::wrap_stream(body));
        if let Some(bytes) = bytes {
            request = request.header(header::CONTENT_LENGTH, bytes);
        }
        let answer = client.send_slowly(request).await?;
        client.read_json(answer).await
    }
}

/// The length of what is there, if it is a file.
async fn length(path: &Path) -> Result<Option<u64>, ClientError> {
    let about = tokio::fs::metadata(path).await.map_err(ClientError::file(path))?;
    Ok(about.is_file().then_some(about.len()))
}

async fn open(source: Source) -> Result<(Reader, Option<u64>), ClientError> {
    let path = match source {
        Source::Reader { reader, bytes } => return Ok((reader, bytes)),
        Source::Path(path) => path,
    };
    let file = File::open(&path).await.map_err(ClientError::file(&path))?;
    let about = file.metadata().await.map_err(ClientError::file(&path))?;
    if about.is_dir() {
        return Err(ClientError::file(&path)(io::ErrorKind::IsADirectory.into()));
    }
    if about.is_file() {
        // A file that grows meanwhile is sent as long as it was.
        let bytes = about.len();
        return Ok((Box::pin(file.take(bytes)), Some(bytes)));
    }
    Ok((Box::pin(file), None))
}

/// What a reader gives that stands at `at` of the file.
pub(crate) fn observed(
    reader: Reader,
    seen: Arc<Mutex<Seen>>,
    mut at: u64,
    on_progress: OnProgress,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    ReaderStream::with_capacity(reader, CHUNK_BYTES).inspect(move |chunk| {
        if let Ok(chunk) = chunk {
            seen.lock().unwrap_or_else(PoisonError::into_inner).add(at, chunk);
            at += chunk.len() as u64;
            on_progress(at);
        }
    })
}
