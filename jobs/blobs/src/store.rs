//! The store itself.

use std::{
    io::{self, Read, Seek},
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
};

use bytes::Bytes;
use fourmi_model::BlobId;
use futures_util::{Stream, StreamExt};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

use crate::{
    BlobError, clean_name,
    incoming::{self, Incoming, Placed, Places},
    media_type,
};

/// A stored file, without its content. It never changes, unless it still grows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "File")]
pub struct Blob {
    /// The id.
    pub id: BlobId,
    /// The name to save it under.
    pub name: String,
    /// Its size in bytes; while it grows, what it has now.
    pub bytes: u64,
    /// The SHA-256 of its content, in lower-case hexadecimal digits; absent while it grows.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sha256: String,
    /// Its media type, by its content.
    pub media_type: String,
    /// When it was stored.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub created_at: Timestamp,
    /// Where it came from.
    #[serde(default)]
    pub origin: Origin,
    /// Whether a job still appends to it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub growing: bool,
}

/// Where a file came from: what it says is trusted only if we made it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "FileOrigin")]
pub enum Origin {
    /// Somebody sent it. Also said of files from before this was written down.
    #[default]
    Upload,
    /// A job made it.
    Job,
}

/// A file that exists and still grows: whoever made it appends to it by its path, while others read what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Growing {
    id: BlobId,
    path: PathBuf,
}

impl Growing {
    /// Its id, which it keeps when it is sealed.
    pub fn id(&self) -> BlobId {
        self.id
    }

    /// Where to append, for programs on this machine. What is written there once must stay as it is: it may have been read.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// What content must be like to be stored.
#[derive(Debug, Clone)]
pub struct Expected {
    /// The most bytes.
    pub max_bytes: u64,
    /// Its SHA-256, if known.
    pub sha256: Option<[u8; 32]>,
}

impl Default for Expected {
    /// Anything.
    fn default() -> Self {
        Self { max_bytes: u64::MAX, sha256: None }
    }
}

/// Stored files in a folder; cheap to clone. Any number of processes may share the folder.
#[derive(Debug, Clone)]
pub struct Blobs {
    root: Arc<Path>,
}

impl Blobs {
    /// Opens the store in `folder`, which is made if need be, and removes what broken writes left there.
    ///
    /// # Errors
    /// If the folder cannot be made, read or written.
    pub async fn open(folder: impl Into<PathBuf>) -> Result<Self, BlobError> {
        let blobs = Self { root: folder.into().into() };
        let root = Arc::clone(&blobs.root);
        blocking(move || {
            incoming::make_private_folder(&incoming::incoming_folder(&root))
                .map_err(BlobError::storage("making the folder of stored files"))?;
            incoming::sweep(&root).map_err(BlobError::storage("sweeping the folder of stored files"))
        })
        .await?;
        Ok(blobs)
    }

    /// Stores what `content` gives. `name` is cleaned (see [`clean_name`]).
    ///
    /// Dropping the future gives up and leaves nothing behind, unless all of the content had arrived.
    ///
    /// # Errors
    /// If the content ends with an error ([`BlobError::Source`]), is not as `expected`, or cannot be written.
    pub async fn put(
        &self,
        name: &str,
        content: impl Stream<Item = io::Result<Bytes>>,
        expected: Expected,
    ) -> Result<Blob, BlobError> {
        let id = BlobId::random();
        let root = Arc::clone(&self.root);
        let incoming = blocking(move || Incoming::create(&root, &id)).await?;
        let summary = write(&incoming, content, expected.max_bytes).await?;
        summary.check(expected.sha256)?;
        self.keep(incoming, summary.describe(id, name, None, Origin::Upload)).await
    }

    /// Stores what `content` gives; as [`Blobs::put`].
    ///
    /// # Errors
    /// As [`Blobs::put`].
    pub async fn put_reader(
        &self,
        name: &str,
        content: impl tokio::io::AsyncRead,
        expected: Expected,
    ) -> Result<Blob, BlobError> {
        self.put(name, tokio_util::io::ReaderStream::with_capacity(content, 64 * 1024), expected).await
    }

    /// Moves the finished file at `path`, which a job made, into the store. `media_type` wins over what its content says.
    ///
    /// # Errors
    /// If the file cannot be read ([`BlobError::Source`]) or moved. The file is gone from `path` afterwards, unless it
    /// could not be opened.
    pub async fn import(&self, path: &Path, name: &str, media_type: Option<&str>) -> Result<Blob, BlobError> {
        let id = BlobId::random();
        let (root, path) = (Arc::clone(&self.root), path.to_owned());
        let (incoming, summary) = blocking(move || {
            let incoming = Incoming::adopt(&root, &id, &path)?;
            let summary = Summary::of_file(incoming.file()).map_err(BlobError::Source)?;
            Ok((incoming, summary))
        })
        .await?;
        self.keep(incoming, summary.describe(id, name, media_type, Origin::Job)).await
    }

    /// Makes an empty file that exists at once and grows until it is sealed. `name` is cleaned (see [`clean_name`]).
    ///
    /// It outlives its maker, so that the next run can go on ([`Blobs::regrow`]). A maker that gives up deletes it.
    ///
    /// # Errors
    /// If it cannot be written.
    pub async fn grow(&self, name: &str, media_type: &str) -> Result<Growing, BlobError> {
        let id = BlobId::random();
        let root = Arc::clone(&self.root);
        let incoming = blocking(move || Incoming::create(&root, &id)).await?;
        let empty = Summary::default().describe(id, name, Some(media_type), Origin::Job);
        self.keep(incoming, Blob { sha256: String::new(), growing: true, ..empty }).await?;
        Ok(self.growing(id))
    }

    /// The file of that id, to be appended to again; `None` if there is none, or it is sealed.
    ///
    /// # Errors
    /// If its metadata cannot be read.
    pub async fn regrow(&self, id: &BlobId) -> Result<Option<Growing>, BlobError> {
        Ok(self.get(id).await?.filter(|blob| blob.growing).map(|blob| self.growing(blob.id)))
    }

    fn growing(&self, id: BlobId) -> Growing {
        Growing { id, path: self.path(&id) }
    }

    /// Makes a growing file an ordinary one: nothing is appended any more, and its size and SHA-256 are final. One that is
    /// sealed already stays as it is, so that this may be repeated. `None` if there is no such file.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub async fn seal(&self, id: &BlobId) -> Result<Option<Blob>, BlobError> {
        let Some(blob) = self.get(id).await?.filter(|blob| blob.growing) else { return self.get(id).await };
        let places = self.places(id);
        blocking(move || {
            let Some(placed) = Placed::lock(places)? else { return Ok(None) };
            let summary = Summary::of_file(placed.file()).map_err(BlobError::Source)?;
            let (bytes, sha256) = (summary.bytes, hex::encode(summary.hash.finalize()));
            let blob = Blob { bytes, sha256, growing: false, ..blob };
            placed.describe(&blob)?;
            Ok(Some(blob))
        })
        .await
    }

    async fn keep(&self, incoming: Incoming, blob: Blob) -> Result<Blob, BlobError> {
        blocking(move || {
            incoming.keep(&blob)?;
            Ok(blob)
        })
        .await
    }

    /// A stored file without its content; `None` if there is no such file.
    ///
    /// # Errors
    /// If its metadata cannot be read.
    pub async fn get(&self, id: &BlobId) -> Result<Option<Blob>, BlobError> {
        let text = match tokio::fs::read(self.places(id).metadata()).await {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(BlobError::storage("reading a file's metadata")(error)),
        };
        let blob = serde_json::from_slice(&text).map_err(io::Error::from);
        let mut blob: Blob = blob.map_err(BlobError::storage("reading a file's metadata"))?;
        if blob.growing {
            match tokio::fs::metadata(self.path(id)).await {
                Ok(content) => blob.bytes = content.len(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(BlobError::storage("reading a file's length")(error)),
            }
        }
        Ok(Some(blob))
    }

    /// Opens a stored file for reading, from its start; `None` if there is no such file.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn reader(&self, id: &BlobId) -> Result<Option<(Blob, tokio::fs::File)>, BlobError> {
        let Some(blob) = self.get(id).await? else { return Ok(None) };
        match tokio::fs::File::open(self.path(id)).await {
            Ok(file) => Ok(Some((blob, file))),
            // It was deleted since.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(BlobError::storage("opening a file")(error)),
        }
    }

    /// Where the content lies, for programs on this machine; to be read only. The file need not exist.
    pub fn path(&self, id: &BlobId) -> PathBuf {
        self.places(id).content()
    }

    /// Deletes a file; `false` if there was none. Who has it open may read on.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub async fn delete(&self, id: &BlobId) -> Result<bool, BlobError> {
        let (root, id) = (Arc::clone(&self.root), *id);
        blocking(move || incoming::delete(&root, &id)).await
    }

    fn places(&self, id: &BlobId) -> Places {
        Places::new(&self.root, id)
    }
}

/// Runs work that waits for the disk where it disturbs nobody.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BlobError> + Send + 'static,
) -> Result<T, BlobError> {
    let result = tokio::task::spawn_blocking(work).await;
    result.unwrap_or_else(|stopped| Err(BlobError::storage("working with the disk")(io::Error::other(stopped))))
}

pub(crate) async fn write(
    incoming: &Incoming,
    content: impl Stream<Item = io::Result<Bytes>>,
    max_bytes: u64,
) -> Result<Summary, BlobError> {
    let full = BlobError::storage;
    let file = incoming.file().try_clone().map_err(full("opening a file"))?;
    let mut file = tokio::fs::File::from_std(file);
    let mut summary = Summary::default();
    let mut content = pin!(content);
    while let Some(chunk) = content.next().await {
        let chunk = chunk.map_err(BlobError::Source)?;
        summary.add(&chunk);
        if summary.bytes > max_bytes {
            return Err(BlobError::TooLarge { max_bytes });
        }
        file.write_all(&chunk).await.map_err(full("writing a file"))?;
    }
    file.flush().await.map_err(full("writing a file"))?;
    Ok(summary)
}

/// What is known of content that went past.
#[derive(Default)]
pub(crate) struct Summary {
    bytes: u64,
    hash: Sha256,
    sample: Vec<u8>,
}

impl Summary {
    fn of_file(mut file: &std::fs::File) -> io::Result<Self> {
        file.rewind()?;
        let mut summary = Self::default();
        let mut buffer = vec![0; 256 * 1024];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(summary),
                read => summary.add(&buffer[..read]),
            }
        }
    }

    fn add(&mut self, chunk: &[u8]) {
        self.bytes += chunk.len() as u64;
        self.hash.update(chunk);
        let missing = media_type::SAMPLE_BYTES.saturating_sub(self.sample.len());
        self.sample.extend_from_slice(&chunk[..chunk.len().min(missing)]);
    }

    fn check(&self, expected: Option<[u8; 32]>) -> Result<(), BlobError> {
        let actual: [u8; 32] = self.hash.clone().finalize().into();
        match expected {
            Some(expected) if expected != actual => {
                Err(BlobError::ChecksumMismatch { expected: hex::encode(expected), actual: hex::encode(actual) })
            }
            _ => Ok(()),
        }
    }

    fn describe(self, id: BlobId, name: &str, media_type: Option<&str>, origin: Origin) -> Blob {
        Blob {
            id,
            name: clean_name(name),
            bytes: self.bytes,
            sha256: hex::encode(self.hash.finalize()),
            media_type: media_type.unwrap_or_else(|| media_type::of(&self.sample)).to_owned(),
            created_at: Timestamp::now(),
            origin,
            growing: false,
        }
    }
}
