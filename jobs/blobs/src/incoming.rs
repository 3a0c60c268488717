//! Files on their way in: locked while their maker lives, removed if they do not arrive.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use fourmi_model::BlobId;

use crate::{Blob, BlobError};

/// Where content and metadata of a file lie, before and after it exists.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    pub(crate) incoming: PathBuf,
    pub(crate) shard: PathBuf,
    name: String,
}

impl Places {
    pub(crate) fn new(root: &Path, id: &BlobId) -> Self {
        let name = id.to_string();
        let shard = name.trim_start_matches("file-").chars().take(2).collect::<String>();
        Self { incoming: incoming_folder(root), shard: root.join(shard), name }
    }

    pub(crate) fn content(&self) -> PathBuf {
        self.shard.join(&self.name)
    }

    pub(crate) fn metadata(&self) -> PathBuf {
        self.shard.join(format!("{}.json", self.name))
    }

    fn incoming_content(&self) -> PathBuf {
        self.incoming.join(&self.name)
    }

    pub(crate) fn incoming_metadata(&self) -> PathBuf {
        self.incoming.join(format!("{}.json", self.name))
    }
}

pub(crate) fn incoming_folder(root: &Path) -> PathBuf {
    root.join("incoming")
}

/// A file that does not exist yet. Dropped, it leaves nothing behind.
pub(crate) struct Incoming {
    places: Places,
    file: File,
    kept: bool,
}

impl Incoming {
    /// An empty file, private and locked.
    pub(crate) fn create(root: &Path, id: &BlobId) -> Result<Self, BlobError> {
        let places = Places::new(root, id);
        let path = places.incoming_content();
        let open = || OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
        loop {
            let file = open().map_err(BlobError::storage("making a file"))?;
            file.lock().map_err(BlobError::storage("locking a file"))?;
            // A sweep may have met the file before it was locked, and have removed it.
            if file.metadata().is_ok_and(|metadata| metadata.nlink() > 0) {
                return Ok(Self { places, file, kept: false });
            }
        }
    }

    /// Moves a file in, or copies it if it lies on another file system.
    pub(crate) fn adopt(root: &Path, id: &BlobId, source: &Path) -> Result<Self, BlobError> {
        let places = Places::new(root, id);
        let file = open_regular(source).map_err(BlobError::Source)?;
        file.lock().map_err(BlobError::storage("locking a file"))?;
        match fs::rename(source, places.incoming_content()) {
            Ok(()) => {
                let incoming = Self { places, file, kept: false };
                let private = fs::Permissions::from_mode(0o600);
                incoming.file.set_permissions(private).map_err(BlobError::storage("making a file private"))?;
                Ok(incoming)
            }
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => Self::copy(root, id, file, source),
            Err(error) => Err(BlobError::storage("moving a file in")(error)),
        }
    }

    fn copy(root: &Path, id: &BlobId, mut from: File, source: &Path) -> Result<Self, BlobError> {
        let mut incoming = Self::create(root, id)?;
        io::copy(&mut from, &mut incoming.file).map_err(BlobError::storage("copying a file in"))?;
        fs::remove_file(source).map_err(BlobError::storage("removing a file that was copied"))?;
        Ok(incoming)
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Makes the file exist; see the crate's documentation for the order of the steps.
    pub(crate) fn keep(mut self, blob: &Blob) -> Result<(), BlobError> {
        self.file.sync_all().map_err(BlobError::storage("flushing a file to disk"))?;
        write_metadata(&self.places, blob).map_err(BlobError::storage("writing a file's metadata"))?;
        let places = &self.places;
        make_private_folder(&places.shard).map_err(BlobError::storage("making a folder"))?;
        let moved = fs::rename(places.incoming_content(), places.content())
            .and_then(|()| fs::rename(places.incoming_metadata(), places.metadata()));
        moved.map_err(BlobError::storage("moving a file to its place"))?;
        self.kept = true;
        flush_folder(&self.places.shard)
            .and_then(|()| flush_folder(&self.places.incoming))
            .map_err(BlobError::storage("flushing a folder to disk"))
    }
}

fn write_metadata(places: &Places, blob: &Blob) -> io::Result<()> {
    write_json(&places.incoming_metadata(), blob)
}

/// Writes a private file. One may be there of a maker that died; whoever writes here holds the lock of the content.
pub(crate) fn write_json(path: &Path, value: &impl serde::Serialize) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(&serde_json::to_vec(value)?)?;
    file.sync_all()
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let places = &self.places;
        // The metadata goes last, for it leads a sweep to the content if we die here.
        for path in [places.incoming_content(), places.content(), places.incoming_metadata()] {
            // What cannot be removed now is removed by the next sweep.
            let _swept_later = fs::remove_file(path);
        }
    }
}

/// Makes a file exist whose content lies at `from`, and stays there too. The caller holds the lock of the content, so that
/// no sweep takes the new name away before its metadata is there.
pub(crate) fn link(root: &Path, from: &Path, blob: &Blob) -> Result<(), BlobError> {
    let places = Places::new(root, &blob.id);
    make_private_folder(&places.shard).map_err(BlobError::storage("making a folder"))?;
    // One may be left of an earlier attempt that died.
    let placed = remove_if_there(&places.content())
        .and_then(|()| fs::hard_link(from, places.content()))
        .and_then(|()| write_metadata(&places, blob))
        .and_then(|()| fs::rename(places.incoming_metadata(), places.metadata()));
    if let Err(error) = placed {
        for path in [places.content(), places.incoming_metadata()] {
            let _swept_later = fs::remove_file(path);
        }
        return Err(BlobError::storage("giving a file its place")(error));
    }
    flush_folder(&places.shard)
        .and_then(|()| flush_folder(&places.incoming))
        .map_err(BlobError::storage("flushing a folder to disk"))
}

/// A file in its place, locked: nobody deletes it or sweeps its entries meanwhile.
pub(crate) struct Placed {
    places: Places,
    file: File,
}

impl Placed {
    /// Waits for the lock of a file; `None` if there is no such file.
    pub(crate) fn lock(places: Places) -> Result<Option<Self>, BlobError> {
        let file = match File::open(places.content()) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(BlobError::storage("opening a file")(error)),
        };
        file.lock().map_err(BlobError::storage("locking a file"))?;
        let exists = places.metadata().try_exists().map_err(BlobError::storage("looking for a file"))?;
        Ok(exists.then_some(Self { places, file }))
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Flushes the content and gives the file other metadata.
    pub(crate) fn describe(&self, blob: &Blob) -> Result<(), BlobError> {
        self.file.sync_all().map_err(BlobError::storage("flushing a file to disk"))?;
        write_metadata(&self.places, blob)
            .and_then(|()| fs::rename(self.places.incoming_metadata(), self.places.metadata()))
            .and_then(|()| flush_folder(&self.places.shard))
            .map_err(BlobError::storage("writing a file's metadata"))
    }
}

/// A link would be moved instead of what it points to.
fn open_regular(path: &Path) -> io::Result<File> {
    if !fs::symlink_metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    OpenOptions::new().read(true).write(true).open(path)
}

/// Makes a file not exist any more; `false` if it did not.
pub(crate) fn delete(root: &Path, id: &BlobId) -> Result<bool, BlobError> {
    let places = Places::new(root, id);
    // Content without metadata is no file; metadata without content is none that can be locked, but goes too.
    let _locked = Placed::lock(places.clone())?;
    match fs::rename(places.metadata(), places.incoming_metadata()) {
        Ok(()) => remove_deleted(&places).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
    .map_err(BlobError::storage("deleting a file"))
}

fn remove_deleted(places: &Places) -> io::Result<()> {
    flush_folder(&places.shard)?;
    remove_if_there(&places.content())?;
    remove_if_there(&places.incoming_metadata())
}

/// Removes what makers that have died left behind; gives the number of files.
pub(crate) fn sweep(root: &Path) -> io::Result<usize> {
    let mut swept = 0;
    for entry in fs::read_dir(incoming_folder(root))? {
        let name = entry?.file_name();
        let Some(id) = name.to_str().and_then(|name| name.trim_end_matches(".json").parse().ok()) else { continue };
        if remove_abandoned(&Places::new(root, &id))? {
            swept += 1;
        }
    }
    Ok(swept)
}

fn remove_abandoned(places: &Places) -> io::Result<bool> {
    // In this order, for a file only ever moves from the first place to the second.
    for content in [places.incoming_content(), places.content()] {
        match File::open(&content) {
            Ok(file) => match file.try_lock() {
                Ok(()) => return remove_entries(places, &content).map(|()| true),
                Err(TryLockError::WouldBlock) => return Ok(false),
                Err(TryLockError::Error(error)) => return Err(error),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    remove_if_there(&places.incoming_metadata())?;
    Ok(true)
}

fn remove_entries(places: &Places, content: &Path) -> io::Result<()> {
    // Its maker may have kept it between our two looks.
    if !places.metadata().try_exists()? {
        remove_if_there(content)?;
    }
    remove_if_there(&places.incoming_metadata())
}

pub(crate) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes a folder that only its owner may look into, if there is none.
pub(crate) fn make_private_folder(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    if path.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    path.parent().map_or(Ok(()), flush_folder)
}

/// So that names in a folder survive a power cut.
pub(crate) fn flush_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `/dev/full` refuses every byte as a full disk does, and needs neither privileges nor a file system of its own.
    #[tokio::test]
    async fn a_full_disk_is_told_apart_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let places = Places::new(folder.path(), &BlobId::random());
        make_private_folder(&places.incoming).unwrap();
        File::create(places.incoming_content()).unwrap();
        let full = OpenOptions::new().read(true).write(true).open("/dev/full").unwrap();
        let incoming = Incoming { places, file: full, kept: false };

        let content = futures_util::stream::iter([Ok(vec![7; 300_000].into()), Ok(vec![7; 300_000].into())]);
        let error = crate::content::write(incoming.file(), content, u64::MAX, |_| ()).await.err().unwrap();
        assert!(matches!(error, BlobError::DiskFull), "{error}");

        drop(incoming);
        assert_eq!(fs::read_dir(incoming_folder(folder.path())).unwrap().count(), 0);
    }

    #[test]
    fn a_sweep_takes_what_is_abandoned_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        make_private_folder(&incoming_folder(root)).unwrap();
        let id = BlobId::random();
        let alive = Incoming::create(root, &id).unwrap();

        // Died while writing; died between the two moves; died while deleting.
        let [writing, moving, deleting] = [(); 3].map(|()| Places::new(root, &BlobId::random()));
        File::create(writing.incoming_content()).unwrap();
        make_private_folder(&moving.shard).unwrap();
        File::create(moving.content()).unwrap();
        File::create(moving.incoming_metadata()).unwrap();
        File::create(deleting.incoming_metadata()).unwrap();
        File::create(incoming_folder(root).join("foreign")).unwrap();

        assert_eq!(sweep(root).unwrap(), 3);
        let mut left: Vec<_> = fs::read_dir(incoming_folder(root)).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [id.to_string().as_str(), "foreign"]);
        assert!(!moving.content().exists());
        drop(alive);
    }
}
