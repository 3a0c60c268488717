//! Downloads that are kept for a while, so that an equal request costs the network nothing.
//!
//! ```text
//! <cache>/downloads/<key>.lock      held alone while it is fetched, together while it is used
//! <cache>/downloads/<key>/          entry.json when it is whole; until then what is needed to go on
//! <cache>/ids/<hash of the id>      the key of the entry that has, or will have, the recording of that id
//! ```

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use fourmi_model::Failure;
use fourmi_runtime::{Context, write_whole};
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Page;

/// How often a lock is looked at that somebody else holds.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Something is wrong with the cache's folder.
pub(super) fn broken(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Failure::retry("disk_full", "there is no room left on the worker's disk")
        }
        _ => Failure::retry("storage_failed", "the folder of downloads cannot be used").because(error),
    }
}

/// The cache's folder.
pub(super) struct Cache {
    root: PathBuf,
    fresh: Duration,
    most_bytes: u64,
}

/// A download and its lock.
pub(super) struct Entry {
    pub(super) folder: PathBuf,
    lock: Flock<File>,
}

/// A whole download: what `entry.json` holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Complete {
    /// The file's name in the entry's folder.
    pub(super) media: String,
    pub(super) bytes: u64,
    pub(super) sha256: String,
    pub(super) canonical_id: String,
    pub(super) page: Page,
    fetched_at: SystemTime,
}

impl Complete {
    pub(super) fn new(media: String, bytes: u64, sha256: String, canonical_id: String, page: Page) -> Self {
        Self { media, bytes, sha256, canonical_id, page, fetched_at: SystemTime::now() }
    }
}

pub(crate) fn hash(text: &str) -> String {
    hex::encode(&Sha256::digest(text.as_bytes())[..16])
}

impl Cache {
    pub(super) fn open(root: &Path, fresh: Duration, most_bytes: u64) -> Result<Self, Failure> {
        for folder in ["downloads", "ids"] {
            fs::create_dir_all(root.join(folder)).map_err(|error| broken(&error))?;
        }
        Ok(Self { root: root.to_owned(), fresh, most_bytes })
    }

    /// The entry of a key, for this process alone; waits while another has it, and calls `waiting` once if so.
    ///
    /// # Errors
    /// `cancelled`, `storage_failed`.
    pub(super) async fn lock(&self, key: &str, context: &Context, waiting: impl Fn()) -> Result<Entry, Failure> {
        let folder = self.root.join("downloads").join(key);
        let held = hold(&folder.with_extension("lock"), context, waiting).await?;
        fs::create_dir_all(&folder).map_err(|error| broken(&error))?;
        Ok(Entry { folder, lock: held.0 })
    }

    /// The whole download of an entry, unless it is too old.
    pub(super) fn complete(&self, entry: &Entry) -> Option<Complete> {
        let complete = entry.complete()?;
        let age = SystemTime::now().duration_since(complete.fetched_at).unwrap_or_default();
        (age <= self.fresh && entry.folder.join(&complete.media).is_file()).then_some(complete)
    }

    /// Whose entry has, or will have, the recording of an id: the first to ask, and `key` if nobody asked before.
    pub(super) fn owner(&self, canonical_id: &str, key: &str) -> Result<String, Failure> {
        let path = self.root.join("ids").join(hash(canonical_id));
        let claim = || -> io::Result<String> {
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(mut file) => file.write_all(key.as_bytes()).map(|()| key.to_owned()),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => fs::read_to_string(&path),
                Err(error) => Err(error),
            }
        };
        let owner = claim().map_err(|error| broken(&error))?;
        // Its entry may have been evicted since; then the recording is ours.
        let lives = owner == key || self.root.join("downloads").join(&owner).is_dir();
        if lives && !owner.is_empty() {
            return Ok(owner);
        }
        write_whole(&path, key.as_bytes()).map_err(|error| broken(&error))?;
        Ok(key.to_owned())
    }

    /// Removes entries that are too old and, as long as there is too little room, those that were not used for longest.
    pub(super) fn tidy(&self) {
        let mut entries: Vec<_> = fs::read_dir(self.root.join("downloads"))
            .into_iter()
            .flatten()
            .flatten()
            .filter(|item| item.path().is_dir())
            .map(|item| {
                let (bytes, used) = weigh(&item.path());
                (used, bytes, item.path())
            })
            .collect();
        entries.sort();
        let mut total: u64 = entries.iter().map(|(_, bytes, _)| bytes).sum();
        for (used, bytes, folder) in entries {
            let age = SystemTime::now().duration_since(used).unwrap_or_default();
            if age <= self.fresh && total <= self.most_bytes {
                break;
            }
            if evict(&folder) {
                total = total.saturating_sub(bytes);
            }
        }
        self.tidy_ids();
    }

    fn tidy_ids(&self) {
        for item in fs::read_dir(self.root.join("ids")).into_iter().flatten().flatten() {
            let owner = fs::read_to_string(item.path()).unwrap_or_default();
            let old = item
                .metadata()
                .and_then(|metadata| metadata.modified())
                .is_ok_and(|modified| SystemTime::now().duration_since(modified).is_ok_and(|age| age > self.fresh));
            if old && !self.root.join("downloads").join(owner).is_dir() {
                // Another process may have been quicker.
                let _ = fs::remove_file(item.path());
            }
        }
    }
}

impl Entry {
    /// An entry of one job alone, in a folder that is its own.
    pub(super) fn private(folder: PathBuf) -> Result<Self, Failure> {
        let make = || -> io::Result<Self> {
            fs::create_dir_all(&folder)?;
            let lock = try_lock(&folder.with_extension("lock"), FlockArg::LockExclusiveNonblock)?;
            let lock = lock.ok_or_else(|| io::Error::other("an earlier run is still in the folder"))?;
            Ok(Self { folder: folder.clone(), lock })
        };
        make().map_err(|error| broken(&error))
    }

    pub(super) fn complete(&self) -> Option<Complete> {
        serde_json::from_slice(&fs::read(self.folder.join("entry.json")).ok()?).ok()
    }

    /// Notes that the download is whole.
    pub(super) fn set_complete(&self, complete: &Complete) -> Result<(), Failure> {
        let text = serde_json::to_vec(complete).map_err(io::Error::from);
        text.and_then(|text| write_whole(&self.folder.join("entry.json"), &text)).map_err(|error| broken(&error))
    }

    /// Empties the folder: what is in it is of no use.
    pub(super) fn clear(&self) -> Result<(), Failure> {
        let clear = || {
            fs::remove_dir_all(&self.folder)?;
            fs::create_dir_all(&self.folder)
        };
        clear().map_err(|error| broken(&error))
    }

    /// Lets others use it, too; it stays as long as the lock.
    pub(super) fn share(self) -> Result<Shared, Failure> {
        // The time of the last use.
        if let Ok(file) = File::open(self.folder.join("entry.json")) {
            let _ = file.set_modified(SystemTime::now());
        }
        self.lock.relock(FlockArg::LockSharedNonblock).map_err(|errno| broken(&errno.into()))?;
        Ok(Shared { _lock: self.lock })
    }
}

/// Keeps an entry from being evicted.
pub(crate) struct Shared {
    _lock: Flock<File>,
}

/// A lock that this process holds alone.
pub(crate) struct Held(Flock<File>);

/// Takes a lock; waits while another process has it, and calls `waiting` once if so.
///
/// # Errors
/// `cancelled`, `storage_failed`.
pub(crate) async fn hold(path: &Path, context: &Context, waiting: impl Fn()) -> Result<Held, Failure> {
    let mut told = false;
    loop {
        if let Some(lock) = try_lock(path, FlockArg::LockExclusiveNonblock).map_err(|error| broken(&error))? {
            return Ok(Held(lock));
        }
        if !told {
            waiting();
            told = true;
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = context.cancelled() => return Err(Failure::cancelled()),
        }
    }
}

/// Whether any process holds a lock.
pub(crate) fn is_held(path: &Path) -> bool {
    matches!(try_lock(path, FlockArg::LockExclusiveNonblock), Ok(None))
}

/// `None` if another has it.
pub(super) fn try_lock(path: &Path, how: FlockArg) -> io::Result<Option<Flock<File>>> {
    loop {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        let lock = match Flock::lock(file, how) {
            Ok(lock) => lock,
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => return Ok(None),
            Err((_, error)) => return Err(error.into()),
        };
        // Whoever evicted the entry removed the file that we have just locked.
        if lock.metadata()?.nlink() > 0 {
            return Ok(Some(lock));
        }
    }
}

fn evict(folder: &Path) -> bool {
    let path = folder.with_extension("lock");
    let Ok(Some(_lock)) = try_lock(&path, FlockArg::LockExclusiveNonblock) else { return false };
    let gone = fs::remove_dir_all(folder).is_ok();
    // Under its lock, so that nobody holds another one of the same name.
    let _ = fs::remove_file(path);
    gone
}

/// The bytes in a folder, and when it was last used.
fn weigh(folder: &Path) -> (u64, SystemTime) {
    let items = fs::read_dir(folder).into_iter().flatten().flatten().filter_map(|item| item.metadata().ok());
    items.fold((0, SystemTime::UNIX_EPOCH), |(bytes, used), metadata| {
        (bytes + metadata.len(), used.max(metadata.modified().unwrap_or(used)))
    })
}
