//! Files that arrive piece by piece, over days if need be and through any of the processes that share the folder.
//!
//! ```text
//! files/uploads/file-6f96…         what has arrived; locked (flock) while a piece is written
//! files/uploads/file-6f96….json    what was announced; stays a while when the content is stored or has expired
//! ```
//!
//! The length of the first is how far the upload is, so that nothing has to be kept in step with it.

mod entry;
mod piece;

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use fourmi_model::BlobId;
use futures_util::Stream;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use self::{entry::Entry, piece::Piece};
use crate::{
    BlobError, Blobs, Owner, UploadError,
    content::{Summary, blocking, write},
};

/// Uploads into a store; cheap to clone.
#[derive(Debug, Clone)]
pub struct Uploads {
    root: Arc<Path>,
    life: Duration,
}

/// A file that is to arrive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announced {
    /// The name to store it under.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// The SHA-256 that it must have, if that is known.
    pub sha256: Option<[u8; 32]>,
    /// What the caller said of it, kept as it is.
    pub metadata: String,
    /// Whose it is.
    #[serde(flatten)]
    pub owner: Owner,
}

/// A file that is arriving, or has arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// Its id, and that of the file when it has arrived.
    pub id: BlobId,
    /// What was announced.
    pub announced: Announced,
    /// The bytes that are safe on disk.
    pub offset: u64,
    /// What has become of it.
    pub state: UploadState,
}

/// What has become of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadState {
    /// Pieces are missing.
    Arriving {
        /// When what has arrived is removed, unless another piece comes.
        expires_at: Timestamp,
    },
    /// It is a file.
    Stored,
    /// It did not arrive in time, or the file was deleted.
    Expired,
}

impl UploadState {
    fn arriving(expires_at: SystemTime) -> Self {
        Self::Arriving { expires_at: Timestamp::try_from(expires_at).unwrap_or(Timestamp::MAX) }
    }
}

impl Uploads {
    /// Uploads into `blobs`. What gets no piece for `life` expires.
    pub fn of(blobs: &Blobs, life: Duration) -> Self {
        Self { root: Arc::clone(blobs.root()), life }
    }

    /// How long an upload is kept without another piece.
    pub fn life(&self) -> Duration {
        self.life
    }

    /// Makes an upload; an empty file is stored at once.
    ///
    /// # Errors
    /// If it cannot be written.
    pub async fn announce(&self, announced: Announced) -> Result<Upload, UploadError> {
        let entry = self.entry(&BlobId::random());
        blocking(move || {
            entry.create(announced).map_err(BlobError::storage("making an upload"))?;
            entry.look()
        })
        .await
    }

    /// How far an upload is. One that is whole but was not stored, because the process died, is stored now.
    ///
    /// # Errors
    /// [`UploadError::Gone`]; if it cannot be read; what storing it gives.
    pub async fn get(&self, id: &BlobId) -> Result<Upload, UploadError> {
        let entry = self.entry(id);
        blocking(move || entry.look()).await
    }

    /// Writes a piece that begins at `at`. With `sha256` it counts only if it is whole and has that checksum; without, what
    /// arrives of it counts even if it is cut off. The last piece makes the file.
    ///
    /// # Errors
    /// Each of [`UploadError`]. A file that is not the one that was announced is removed.
    pub async fn append(
        &self,
        id: &BlobId,
        at: u64,
        content: impl Stream<Item = io::Result<Bytes>>,
        sha256: Option<[u8; 32]>,
    ) -> Result<Upload, UploadError> {
        let entry = self.entry(id);
        let piece = blocking(move || Piece::begin(entry, at, sha256.is_some())).await?;
        let mut summary = Summary::default();
        let room = piece.about.announced.bytes.saturating_sub(at);
        let seen = |chunk: &[u8]| {
            if sha256.is_some() {
                summary.add(chunk);
            }
        };
        let written = write(&piece.file, content, room, seen).await;
        let written = written.and_then(|()| if sha256.is_some() { summary.check(sha256) } else { Ok(()) });
        blocking(move || piece.end(written)).await
    }

    /// Ends an upload: what has arrived is removed. A file that is stored stays.
    ///
    /// # Errors
    /// [`UploadError::Gone`], [`UploadError::Locked`]; if it cannot be removed.
    pub async fn abandon(&self, id: &BlobId) -> Result<(), UploadError> {
        let entry = self.entry(id);
        blocking(move || {
            entry.about()?.ok_or(UploadError::Gone)?;
            let _locked = entry.try_lock()?;
            Ok(entry.remove().map_err(BlobError::storage("removing an upload"))?)
        })
        .await
    }

    /// Removes what got no piece for too long; gives the number of uploads. Any process that shares the folder may do so
    /// at any time.
    ///
    /// # Errors
    /// If the folder cannot be read or written.
    pub async fn sweep(&self) -> Result<usize, BlobError> {
        let uploads = self.clone();
        blocking(move || uploads.sweep_now().map_err(BlobError::storage("sweeping the folder of uploads"))).await
    }

    /// How many uploads [`Uploads::sweep`] would remove.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub async fn expired(&self) -> Result<usize, BlobError> {
        let uploads = self.clone();
        let looking = BlobError::storage("looking at the uploads");
        blocking(move || uploads.count_expired().map_err(looking)).await
    }

    fn count_expired(&self) -> io::Result<usize> {
        let mut expired = 0;
        for id in self.ids()? {
            expired += usize::from(self.entry(&id).is_expired()?);
        }
        Ok(expired)
    }

    fn sweep_now(&self) -> io::Result<usize> {
        let mut swept = 0;
        for id in self.ids()? {
            swept += usize::from(self.entry(&id).expire()?);
        }
        Ok(swept)
    }

    /// Those of which something is there.
    fn ids(&self) -> io::Result<BTreeSet<BlobId>> {
        let folder = match fs::read_dir(folder(&self.root)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            folder => folder?,
        };
        let mut ids = BTreeSet::new();
        for item in folder {
            let name = item?.file_name();
            ids.extend(name.to_str().and_then(|name| name.split('.').next()?.parse::<BlobId>().ok()));
        }
        Ok(ids)
    }

    fn entry(&self, id: &BlobId) -> Entry {
        let path = folder(&self.root).join(id.to_string());
        Entry { root: Arc::clone(&self.root), id: *id, path, life: self.life }
    }
}

fn folder(root: &Path) -> PathBuf {
    root.join("uploads")
}
