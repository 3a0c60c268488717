//! The store itself.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use bytes::Bytes;
use fourmi_model::BlobId;
use futures_util::Stream;
use jiff::Timestamp;

use crate::{
    Blob, BlobError, Growing, Origin, Owner, clean_name,
    content::{Summary, blocking, write},
    incoming::{self, Incoming, Placed, Places},
    shards,
};

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

/// What is done when files are looked for.
const LOOKING: &str = "looking at the stored files";

/// A part of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard(PathBuf);

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
            Ok::<_, BlobError>(())
        })
        .await?;
        blobs.sweep().await?;
        Ok(blobs)
    }

    /// Removes what broken writes left behind, and nothing that anybody still writes; gives the number of files. Any
    /// process that shares the folder may do so at any time.
    ///
    /// # Errors
    /// If the folder cannot be read or written.
    pub async fn sweep(&self) -> Result<usize, BlobError> {
        let root = Arc::clone(&self.root);
        blocking(move || incoming::sweep(&root).map_err(BlobError::storage("sweeping the folder of stored files")))
            .await
    }

    /// Stores what `content` gives. `name` is cleaned (see [`clean_name`](crate::clean_name)).
    ///
    /// Dropping the future gives up and leaves nothing behind, unless all of the content had arrived.
    ///
    /// # Errors
    /// If the content ends with an error ([`BlobError::Source`]), is not as `expected`, or cannot be written.
    pub async fn put(
        &self,
        name: &str,
        owner: Owner,
        content: impl Stream<Item = io::Result<Bytes>>,
        expected: Expected,
    ) -> Result<Blob, BlobError> {
        let id = BlobId::random();
        let root = Arc::clone(&self.root);
        let incoming = blocking(move || Incoming::create(&root, &id)).await?;
        let mut summary = Summary::default();
        write(incoming.file(), content, expected.max_bytes, |chunk| summary.add(chunk)).await?;
        summary.check(expected.sha256)?;
        self.keep(incoming, summary.describe(id, name, None, Origin::Upload, owner)).await
    }

    /// Stores what `content` gives; as [`Blobs::put`].
    ///
    /// # Errors
    /// As [`Blobs::put`].
    pub async fn put_reader(
        &self,
        name: &str,
        owner: Owner,
        content: impl tokio::io::AsyncRead,
        expected: Expected,
    ) -> Result<Blob, BlobError> {
        self.put(name, owner, tokio_util::io::ReaderStream::with_capacity(content, 64 * 1024), expected).await
    }

    /// Moves the finished file at `path`, which a job made, into the store. `media_type` wins over what its content says.
    ///
    /// # Errors
    /// If the file cannot be read ([`BlobError::Source`]) or moved. The file is gone from `path` afterwards, unless it
    /// could not be opened.
    pub async fn import(
        &self,
        path: &Path,
        name: &str,
        owner: Owner,
        media_type: Option<&str>,
    ) -> Result<Blob, BlobError> {
        let id = BlobId::random();
        let (root, path) = (Arc::clone(&self.root), path.to_owned());
        let (incoming, summary) = blocking(move || {
            let incoming = Incoming::adopt(&root, &id, &path)?;
            let summary = Summary::of_file(incoming.file()).map_err(BlobError::Source)?;
            Ok::<_, BlobError>((incoming, summary))
        })
        .await?;
        self.keep(incoming, summary.describe(id, name, media_type, Origin::Job, owner)).await
    }

    /// The content of a file as a file of another owner, with an id of its own and stored now; what the owner has already
    /// stays as it is. The content is not copied: it is there as long as one of the two. `None` if there is no such file, or
    /// it still grows.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub async fn share(&self, id: &BlobId, owner: &Owner) -> Result<Option<Blob>, BlobError> {
        let Some(blob) = self.get(id).await?.filter(|blob| !blob.growing) else { return Ok(None) };
        if blob.owner == *owner {
            return Ok(Some(blob));
        }
        let name = blob.name.clone();
        self.link(blob, owner, name).await
    }

    /// As [`Blobs::share`], under a name of its own, which is cleaned (see [`clean_name`](crate::clean_name)). Who has the
    /// content already gets another file of it.
    ///
    /// # Errors
    /// As [`Blobs::share`].
    pub async fn share_as(&self, id: &BlobId, owner: &Owner, name: &str) -> Result<Option<Blob>, BlobError> {
        let Some(blob) = self.get(id).await?.filter(|blob| !blob.growing) else { return Ok(None) };
        self.link(blob, owner, clean_name(name)).await
    }

    async fn link(&self, blob: Blob, owner: &Owner, name: String) -> Result<Option<Blob>, BlobError> {
        let (root, places) = (Arc::clone(&self.root), self.places(&blob.id));
        let shared = Blob { id: BlobId::random(), name, owner: owner.clone(), created_at: Timestamp::now(), ..blob };
        blocking(move || {
            let content = places.content();
            // Held until the end: what is locked is swept by nobody.
            let Some(_placed) = Placed::lock(places)? else { return Ok(None) };
            incoming::link(&root, &content, &shared)?;
            Ok(Some(shared))
        })
        .await
    }

    /// Makes an empty file that exists at once and grows until it is sealed. `name` is cleaned (see
    /// [`clean_name`](crate::clean_name)).
    ///
    /// It outlives its maker, so that the next run can go on ([`Blobs::regrow`]). A maker that gives up deletes it.
    ///
    /// # Errors
    /// If it cannot be written.
    pub async fn grow(&self, name: &str, owner: Owner, media_type: &str) -> Result<Growing, BlobError> {
        let id = BlobId::random();
        let root = Arc::clone(&self.root);
        let incoming = blocking(move || Incoming::create(&root, &id)).await?;
        let empty = Summary::default().describe(id, name, Some(media_type), Origin::Job, owner);
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
        Growing::new(id, self.path(&id))
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
            let (bytes, sha256) = (summary.bytes, summary.sha256());
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

    /// The files that were sent with this key or by this person, or made by jobs that they submitted. Looks at every file
    /// that there is.
    ///
    /// # Errors
    /// If the folder cannot be read. Files that are deleted meanwhile may be named, and new ones may be missing.
    pub async fn submitted_by(&self, who: &str) -> Result<Vec<BlobId>, BlobError> {
        let mut found = Vec::new();
        for shard in self.shards().await? {
            let of_shard = self.in_shard(&shard).await?.into_iter();
            found.extend(of_shard.filter(|blob| blob.owner.submitted_by.as_deref() == Some(who)).map(|blob| blob.id));
        }
        Ok(found)
    }

    /// The parts that the store is divided into, for who looks at all files: 256 at most.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub async fn shards(&self) -> Result<Vec<Shard>, BlobError> {
        let root = Arc::clone(&self.root);
        let shards = blocking(move || shards::all(&root).map_err(BlobError::storage(LOOKING))).await?;
        Ok(shards.into_iter().map(Shard).collect())
    }

    /// The files of one part. Those that are deleted meanwhile may be named, and new ones may be missing.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub async fn in_shard(&self, shard: &Shard) -> Result<Vec<Blob>, BlobError> {
        let folder = shard.0.clone();
        blocking(move || shards::described(&folder).map_err(BlobError::storage(LOOKING))).await
    }

    /// Removes content without a description, and descriptions without content, that have been so since before that time:
    /// what a failing disk, a backup that was half restored or somebody at the folder has left. Gives their number and
    /// bytes; a dry run removes nothing.
    ///
    /// # Errors
    /// If the folder cannot be read or written.
    pub async fn remove_orphans(
        &self,
        shard: &Shard,
        before: SystemTime,
        dry_run: bool,
    ) -> Result<(u64, u64), BlobError> {
        let (root, folder) = (Arc::clone(&self.root), shard.0.clone());
        let removing = BlobError::storage("removing what is half a file");
        blocking(move || shards::orphans(&root, &folder, before, dry_run).map_err(removing)).await
    }

    pub(crate) fn root(&self) -> &Arc<Path> {
        &self.root
    }

    fn places(&self, id: &BlobId) -> Places {
        Places::new(&self.root, id)
    }
}
