//! Folders for runs. Each process has one of its own, locked while it lives; what a dead process left is removed by
//! the next one that starts.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use nix::fcntl::{Flock, FlockArg};

/// The scratch folder of this process.
pub(crate) struct Scratch {
    folder: PathBuf,
    _lock: Flock<File>,
}

/// The folder of a run: made when first asked for, removed with everything in it when dropped.
pub(crate) struct RunFolder {
    path: PathBuf,
    made: OnceLock<()>,
}

impl Scratch {
    /// Makes the folder of the process called `name` below `root`, after removing those of dead processes.
    pub(crate) fn open(root: &Path, name: &str) -> io::Result<Self> {
        fs::create_dir_all(root)?;
        remove_dead(root)?;
        let folder = root.join(name);
        fs::create_dir_all(&folder)?;
        let lock = lock(&folder)?.ok_or_else(|| io::Error::other("another worker has the same name"))?;
        Ok(Self { folder, _lock: lock })
    }

    /// The folder of a run.
    pub(crate) fn run(&self, name: &str) -> RunFolder {
        RunFolder { path: self.folder.join(name), made: OnceLock::new() }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            tracing::debug!(%error, "the scratch folder stays until the next start");
        }
    }
}

fn remove_dead(root: &Path) -> io::Result<()> {
    for entry in fs::read_dir(root)? {
        let folder = entry?.path();
        if folder.is_dir() && lock(&folder)?.is_some() {
            fs::remove_dir_all(&folder)?;
        }
    }
    Ok(())
}

/// `None` if a living process has it.
fn lock(folder: &Path) -> io::Result<Option<Flock<File>>> {
    match Flock::lock(File::open(folder)?, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, error)) => Err(error.into()),
    }
}

impl RunFolder {
    /// A folder that exists and that somebody else removes.
    pub(crate) fn borrowed(path: PathBuf) -> Self {
        Self { path, made: OnceLock::new() }
    }

    /// Where it is; it exists from now on.
    pub(crate) fn path(&self) -> io::Result<&Path> {
        if !self.path.is_dir() {
            fs::create_dir_all(&self.path)?;
            let _ = self.made.set(());
        }
        Ok(&self.path)
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        if self.made.get().is_some()
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            tracing::warn!(%error, folder = %self.path.display(), "a scratch folder could not be removed");
        }
    }
}
