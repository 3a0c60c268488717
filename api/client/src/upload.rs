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

use crate::{Client, ClientError, StoredFile};

/// Large enough that a fast disk is not read in crumbs.
const CHUNK_BYTES: usize = 256 * 1024;

type Reader = Pin<Box<dyn AsyncRead + Send>>;
type OnProgress = Box<dyn Fn(u64) + Send + Sync>;

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
    on_progress: OnProgress,
}

impl Client {
    /// The file at `path`, to be stored under its own name.
    pub fn upload(&self, path: &Path) -> Upload {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        Upload { client: self.clone(), source: Source::Path(path.to_owned()), name, on_progress: Box::new(|_| ()) }
    }

    /// What `reader` gives, to be stored under `name`; `bytes` is its length, if it is known.
    pub fn upload_reader(&self, reader: impl AsyncRead + Send + 'static, bytes: Option<u64>, name: &str) -> Upload {
        let source = Source::Reader { reader: Box::pin(reader), bytes };
        Upload { client: self.clone(), source, name: Some(name.to_owned()), on_progress: Box::new(|_| ()) }
    }
}

impl Upload {
    /// Stores the file under this name instead.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Calls `f` with the number of bytes sent so far, whenever some more are.
    pub fn on_progress(mut self, f: impl Fn(u64) + Send + Sync + 'static) -> Self {
        self.on_progress = Box::new(f);
        self
    }

    /// Sends the file.
    ///
    /// # Errors
    /// [`ClientError::File`] if it cannot be read; `file_too_large`, `disk_full`; [`ClientError::Damaged`] if what
    /// arrived is not what was sent.
    pub async fn send(self) -> Result<StoredFile, ClientError> {
        let client = self.client;
        let (reader, bytes) = open(self.source).await?;
        let name = self.name.unwrap_or_else(|| "file".to_owned());
        let sent = Arc::new(Mutex::new(Sha256::new()));
        let body = observed(reader, Arc::clone(&sent), self.on_progress);

        let mut request = client
            .request(Method::POST, ["files"])
            .query(&[("name", &name)])
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .body(Body::wrap_stream(body));
        if let Some(bytes) = bytes {
            request = request.header(header::CONTENT_LENGTH, bytes);
        }
        let answer = client.send_slowly(request).await?;
        let stored: StoredFile = client.read_json(answer).await?;

        let hash = std::mem::take(&mut *sent.lock().unwrap_or_else(PoisonError::into_inner));
        let expected = hex::encode(hash.finalize());
        if stored.sha256 == expected {
            Ok(stored)
        } else {
            Err(ClientError::Damaged { what: name, expected, found: stored.sha256 })
        }
    }
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

fn observed(
    reader: Reader,
    hash: Arc<Mutex<Sha256>>,
    on_progress: OnProgress,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let mut bytes = 0;
    ReaderStream::with_capacity(reader, CHUNK_BYTES).inspect(move |chunk| {
        if let Ok(chunk) = chunk {
            hash.lock().unwrap_or_else(PoisonError::into_inner).update(chunk);
            bytes += chunk.len() as u64;
            on_progress(bytes);
        }
    })
}
