//! Folders that a run may use.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use fourmi_blobs::Blobs;
use fourmi_model::{BlobId, JobId};
use fourmi_queue::Queues;
use fourmi_settings::Data;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// How often folders of jobs that are over are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(10 * 60);

/// How long an earlier run of the job may take to let go of its folder: it dies with its worker, but not at once.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);

/// Names of notes of growing files begin with this.
const GROWING: &str = "growing-";

/// Where the folders of a run are, made or not.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Rooms {
    /// Kept until the job is over.
    pub(crate) kept: PathBuf,
    /// Shared by all jobs of the queue.
    pub(crate) cache: PathBuf,
    /// Whether this process has put something into `kept`.
    #[serde(skip)]
    used: Arc<AtomicBool>,
}

impl Rooms {
    pub(crate) fn of(data: &Data, job: &JobId) -> Self {
        let queue = job.queue().to_string();
        let kept = data.kept().join(&queue).join(job.uuid().to_string());
        Self { kept, cache: data.cache().join(queue), used: Arc::default() }
    }

    /// Opens the folder that is kept; `None` if an earlier run is still in it.
    pub(crate) async fn open_kept(&self) -> io::Result<Option<Kept>> {
        self.used.store(true, Relaxed);
        Kept::open(&self.kept).await
    }

    /// Whether this process has put something into the folder that is kept.
    pub(crate) fn are_used(&self) -> bool {
        self.used.load(Relaxed)
    }

    /// Notes that a stored file grows for the job, so that it goes with the job if nobody finishes it.
    pub(crate) fn note_growing(&self, file: &BlobId) -> io::Result<()> {
        self.used.store(true, Relaxed);
        fs::create_dir_all(&self.kept)?;
        File::create(self.kept.join(format!("{GROWING}{file}"))).map(drop)
    }

    /// Removes what was kept for a job that is over, and what still grows for it.
    pub(crate) async fn forget(&self, blobs: &Blobs) {
        for item in fs::read_dir(&self.kept).into_iter().flatten().flatten() {
            let name = item.file_name();
            let file = name.to_str().and_then(|name| name.strip_prefix(GROWING)?.parse::<BlobId>().ok());
            if let Some(file) = file
                && let Err(error) = blobs.delete(&file).await
            {
                tracing::warn!(%error, %file, "a file that nobody finishes could not be removed");
            }
        }
        match fs::remove_dir_all(&self.kept) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, folder = %self.kept.display(), "what a job kept could not be removed");
            }
            _ => {}
        }
    }
}

/// The folder that a job keeps between its runs.
///
/// It belongs to one process at a time: where an earlier run, of a worker that has lost its lease, is still in it, this run
/// gets nothing and starts over.
pub struct Kept {
    folder: PathBuf,
    _lock: Flock<File>,
}

impl Kept {
    pub(crate) async fn open(folder: &Path) -> io::Result<Option<Self>> {
        fs::create_dir_all(folder)?;
        let patience = tokio::time::Instant::now() + LOCK_PATIENCE;
        loop {
            match Flock::lock(File::open(folder)?, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(Some(Self { folder: folder.to_owned(), _lock: lock })),
                Err((_, nix::errno::Errno::EWOULDBLOCK)) => {}
                Err((_, error)) => return Err(error.into()),
            }
            if tokio::time::Instant::now() > patience {
                return Ok(None);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The folder. Large files can lie in it; names that begin with `checkpoint-` or `growing-`
    /// are taken.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What an earlier run noted under `name`; none if there is nothing, or nothing that this build can read.
    pub fn checkpoint<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let text = fs::read(self.place(name)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Notes something for the next run. It is there as a whole or not at all.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn set_checkpoint<T: Serialize>(&self, name: &str, value: &T) -> io::Result<()> {
        write_whole(&self.place(name), &serde_json::to_vec(value)?)
    }

    fn place(&self, name: &str) -> PathBuf {
        self.folder.join(format!("checkpoint-{name}.json"))
    }
}

/// Writes a file that is there as a whole or not at all, and that only its owner may read.
///
/// # Errors
/// What the system says.
pub fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    // Two processes may write the same file; the last one wins.
    name.push(format!(".{}.{:08x}.part", std::process::id(), rand::random::<u32>()));
    let part = path.with_file_name(name);
    let write = || {
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?.write_all(content)?;
        fs::rename(&part, path)
    };
    write().inspect_err(|_| drop(fs::remove_file(&part)))
}

/// Removes what jobs kept that ended elsewhere: were cancelled while they waited, or failed on another machine.
pub(crate) async fn sweep(data: &Data, queues: &Queues, blobs: &Blobs, queue: &str) {
    let root = data.kept().join(queue);
    loop {
        let folders = fs::read_dir(&root).into_iter().flatten().flatten();
        for folder in folders {
            let id = folder.file_name().to_str().and_then(|uuid| format!("{queue}-{uuid}").parse::<JobId>().ok());
            let Some(id) = id else { continue };
            let is_over = match queues.get(&id).await {
                Ok(job) => job.is_none_or(|job| job.state.is_final()),
                Err(_) => false,
            };
            if is_over {
                Rooms::of(data, &id).forget(blobs).await;
            }
        }
        tokio::time::sleep(SWEEP_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_grows_for_a_job_goes_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(&folder.path().join("files")).await.unwrap();
        let id: JobId = "media-01a1fe35-8582-75f9-a09c-859eaf05819e".parse().unwrap();
        let rooms = Rooms::of(&Data::at(folder.path()), &id);
        let growing = blobs.grow("live.aac", fourmi_blobs::Owner::default(), "audio/aac").await.unwrap();
        rooms.note_growing(&growing.id()).unwrap();
        rooms.forget(&blobs).await;
        assert!(blobs.get(&growing.id()).await.unwrap().is_none());
        assert!(!rooms.kept.exists());
        // Once more does no harm.
        rooms.forget(&blobs).await;
    }

    #[tokio::test]
    async fn a_kept_folder_belongs_to_one_run_and_its_notes_outlive_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kept");
        let first = Kept::open(&path).await.unwrap().unwrap();
        first.set_checkpoint("step", &7).unwrap();
        assert!(Kept::open(&path).await.unwrap().is_none());
        drop(first);
        let second = Kept::open(&path).await.unwrap().unwrap();
        assert_eq!((second.checkpoint("step"), second.checkpoint::<String>("step")), (Some(7), None));
    }
}
