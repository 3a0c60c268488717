//! What lies where in the data folder.

use std::path::{Path, PathBuf};

use crate::{Environment, SettingError, environment::wrong, table};

/// The data folder. Its paths are absolute, so that they mean the same to every process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Data {
    folder: PathBuf,
}

impl Data {
    /// Reads `FOURMI_DATA`. The folder need not exist yet.
    ///
    /// # Errors
    /// If the working directory is gone, so that a relative path means nothing.
    pub fn read(environment: &Environment) -> Result<Self, SettingError> {
        let path = environment.path(&table::DATA).unwrap_or_else(|| table::DATA.default.into());
        match std::path::absolute(&path) {
            // `absolute` keeps a leading "./" out but "a/../b" in, as it must where links are.
            Ok(folder) => Ok(Self { folder }),
            Err(_) => Err(wrong(&table::DATA, &path.to_string_lossy())),
        }
    }

    /// The data folder of that absolute path.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The folder itself.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Locked while a platform runs on this folder; holds the process id of its supervisor.
    pub fn lock(&self) -> PathBuf {
        self.folder.join("lock")
    }

    /// The private Redis: configuration, socket, append-only file.
    pub fn redis(&self) -> PathBuf {
        self.folder.join("redis")
    }

    /// Stored files.
    pub fn files(&self) -> PathBuf {
        self.folder.join("files")
    }

    /// What is left of finished jobs that the queues have forgotten: a file of SQLite.
    pub fn records(&self) -> PathBuf {
        self.folder.join("records.db")
    }

    /// Folders of running jobs; nothing in it outlives its run.
    pub fn scratch(&self) -> PathBuf {
        self.folder.join("scratch")
    }

    /// What runs of unfinished jobs have kept for the next run, by queue and job.
    pub fn kept(&self) -> PathBuf {
        self.folder.join("kept")
    }

    /// What can be fetched or made again, by queue; may be deleted while nothing runs.
    pub fn cache(&self) -> PathBuf {
        self.folder.join("cache")
    }

    /// Secrets that jobs may name, one file each: the operator puts them here.
    pub fn secrets(&self) -> PathBuf {
        self.folder.join("secrets")
    }

    /// The first API key, readable by its owner only; an operator may delete the file once the key is kept elsewhere.
    pub fn api_key(&self) -> PathBuf {
        self.folder.join("api-key")
    }

    /// The hashes of the API keys.
    pub fn api_keys(&self) -> PathBuf {
        self.folder.join("api-keys.json")
    }

    /// The key that signs links to files, readable by its owner only.
    pub fn link_key(&self) -> PathBuf {
        self.folder.join("link-key")
    }

    /// The secret that all keys for people are derived from, readable by its owner only; not there if the environment names one.
    pub fn secret_key(&self) -> PathBuf {
        self.folder.join("secret-key")
    }

    /// The first password of the first person, readable by its owner only.
    pub fn admin_password(&self) -> PathBuf {
        self.folder.join("admin-password")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_absolute() {
        let data = Data::read(&Environment::of([("FOURMI_DATA", "here")])).unwrap();
        assert_eq!(data.lock(), std::env::current_dir().unwrap().join("here/lock"));
        assert_eq!(Data::read(&Environment::of([("FOURMI_DATA", "")])).unwrap().folder().file_name().unwrap(), "data");
    }
}
