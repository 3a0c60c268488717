//! Where an upload lies: how it is looked at, stored and removed.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use fourmi_model::BlobId;
use serde::{Deserialize, Serialize};

use super::{Announced, Upload, UploadState, folder};
use crate::{
    BlobError, Origin, UploadError,
    content::Summary,
    incoming::{self, Places, remove_if_there},
};

/// What is written down of an upload.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct About {
    #[serde(flatten)]
    pub(super) announced: Announced,
    /// Where a piece began that is checked only when it is whole; without that nothing of it counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) unchecked_from: Option<u64>,
}

/// Where an upload lies.
pub(super) struct Entry {
    pub(super) root: Arc<Path>,
    pub(super) id: BlobId,
    pub(super) path: PathBuf,
    pub(super) life: Duration,
}

impl Entry {
    fn about_path(&self) -> PathBuf {
        self.path.with_extension("json")
    }

    fn places(&self) -> Places {
        Places::new(&self.root, &self.id)
    }

    pub(super) fn create(&self, announced: Announced) -> io::Result<()> {
        incoming::make_private_folder(&folder(&self.root))?;
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.path)?.sync_all()?;
        self.write_about(&About { announced, unchecked_from: None })
    }

    /// What was announced; `None` if nothing was.
    pub(super) fn about(&self) -> Result<Option<About>, BlobError> {
        let read = match fs::read(self.about_path()) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        read.map_err(BlobError::storage("reading an upload"))
    }

    /// Whole or not at all, and safe on disk.
    pub(super) fn write_about(&self, about: &About) -> io::Result<()> {
        let part = self.path.with_extension("json.part");
        incoming::write_json(&part, about)?;
        fs::rename(part, self.about_path())?;
        incoming::flush_folder(&folder(&self.root))
    }

    pub(super) fn look(&self) -> Result<Upload, UploadError> {
        let About { announced, unchecked_from } = self.about()?.ok_or(UploadError::Gone)?;
        let reading = || BlobError::storage("reading an upload");
        let upload = |offset, state| Upload { id: self.id, announced: announced.clone(), offset, state };
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let is_stored = self.places().metadata().try_exists().map_err(reading())?;
                let state = if is_stored { UploadState::Stored } else { UploadState::Expired };
                return Ok(upload(announced.bytes, state));
            }
            Err(error) => return Err(reading()(error).into()),
        };
        // What the caller is told must still be true after a power cut.
        let offset = file.metadata().and_then(|about| file.sync_data().map(|()| about.len())).map_err(reading())?;
        let offset = offset.min(unchecked_from.unwrap_or(u64::MAX));
        if offset == announced.bytes {
            return self.store_now();
        }
        let expires_at = self.expires_at(&file).map_err(reading())?;
        let is_over = expires_at <= SystemTime::now();
        Ok(upload(offset, if is_over { UploadState::Expired } else { UploadState::arriving(expires_at) }))
    }

    /// Stores what has arrived whole, once nobody else does.
    fn store_now(&self) -> Result<Upload, UploadError> {
        let about = self.about()?.ok_or(UploadError::Gone)?;
        match self.lock()? {
            Some(file) => self.store(about, &file),
            // It was stored meanwhile.
            None => self.look(),
        }
    }

    /// Makes the file of an upload that is whole and locked.
    pub(super) fn store(&self, about: About, file: &File) -> Result<Upload, UploadError> {
        let announced = about.announced;
        if !self.places().metadata().try_exists().map_err(BlobError::storage("looking for a file"))? {
            let summary = Summary::of_file(file).map_err(BlobError::storage("reading an upload"))?;
            if let Err(mismatch) = summary.check(announced.sha256) {
                self.remove().map_err(BlobError::storage("removing an upload"))?;
                return Err(mismatch.into());
            }
            let blob = summary.describe(self.id, &announced.name, None, Origin::Upload, announced.owner.clone());
            // Linked, not moved: whenever we die, what has arrived is found in one place at least.
            incoming::link(&self.root, &self.path, &blob)?;
        }
        self.retire().map_err(BlobError::storage("removing an upload"))?;
        Ok(Upload { id: self.id, offset: announced.bytes, announced, state: UploadState::Stored })
    }

    /// Removes the content; what was announced stays a while, to say what has become of it.
    fn retire(&self) -> io::Result<()> {
        match File::open(self.about_path()) {
            Ok(about) => about.set_modified(SystemTime::now())?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        remove_if_there(&self.path)?;
        incoming::flush_folder(&folder(&self.root))
    }

    pub(super) fn remove(&self) -> io::Result<()> {
        self.remove_content()?;
        remove_if_there(&self.about_path())?;
        incoming::flush_folder(&folder(&self.root))
    }

    /// Removes the content, and the second name that it has if we died while it was stored.
    fn remove_content(&self) -> io::Result<()> {
        let places = self.places();
        if !places.metadata().try_exists()? {
            remove_if_there(&places.content())?;
        }
        remove_if_there(&self.path)
    }

    pub(super) fn expires_at(&self, file: &File) -> io::Result<SystemTime> {
        let touched = file.metadata()?.modified()?;
        Ok(touched.checked_add(self.life).unwrap_or(touched))
    }

    fn is_over(&self, file: &File) -> io::Result<bool> {
        Ok(self.expires_at(file)? <= SystemTime::now())
    }

    /// Whether what has arrived is too old.
    pub(super) fn is_expired(&self) -> io::Result<bool> {
        open_if_there(&self.path)?.map_or(Ok(false), |file| self.is_over(&file))
    }

    /// Removes what is too old, unless somebody is at it; whether content was removed.
    pub(super) fn expire(&self) -> io::Result<bool> {
        if let Some(file) = open_if_there(&self.path)? {
            if !self.is_over(&file)? || file.try_lock().is_err() || !self.is_over(&file)? {
                return Ok(false);
            }
            self.remove_content()?;
            self.retire()?;
            return Ok(true);
        }
        for path in [self.about_path(), self.path.with_extension("json.part")] {
            if open_if_there(&path)?.is_some_and(|file| self.is_over(&file).unwrap_or(false)) {
                remove_if_there(&path)?;
            }
        }
        Ok(false)
    }

    /// The content, locked as soon as nobody else has it; `None` if it is gone by then.
    fn lock(&self) -> Result<Option<File>, BlobError> {
        let Some(file) = self.open()? else { return Ok(None) };
        file.lock().map_err(BlobError::storage("locking an upload"))?;
        Ok(self.is_current(&file).then_some(file))
    }

    /// The content, locked; `None` if there is none any more.
    pub(super) fn try_lock(&self) -> Result<Option<File>, UploadError> {
        let Some(file) = self.open()? else { return Ok(None) };
        match file.try_lock() {
            Ok(()) => Ok(self.is_current(&file).then_some(file)),
            Err(TryLockError::WouldBlock) => Err(UploadError::Locked),
            Err(TryLockError::Error(error)) => Err(BlobError::storage("locking an upload")(error).into()),
        }
    }

    fn open(&self) -> Result<Option<File>, BlobError> {
        match OpenOptions::new().read(true).write(true).open(&self.path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(BlobError::storage("opening an upload")(error)),
        }
    }

    /// Whether the content still has its name here: who had the lock before may have stored or removed it.
    fn is_current(&self, file: &File) -> bool {
        let here = file.metadata().and_then(|opened| Ok((opened.ino(), fs::metadata(&self.path)?.ino())));
        here.is_ok_and(|(opened, named)| opened == named)
    }
}

fn open_if_there(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
