//! A piece of an upload, on its way in.

use std::{
    fs::File,
    io::{Seek, SeekFrom},
};

use super::{
    Upload, UploadState,
    entry::{About, Entry},
};
use crate::{BlobError, UploadError};

/// A piece that is being written; the lock of its upload goes with it.
pub(super) struct Piece {
    entry: Entry,
    pub(super) about: About,
    pub(super) file: File,
    at: u64,
    is_checked: bool,
}

impl Piece {
    pub(super) fn begin(entry: Entry, at: u64, is_checked: bool) -> Result<Self, UploadError> {
        let file = entry.try_lock()?.ok_or(UploadError::Gone)?;
        let mut about = entry.about()?.ok_or(UploadError::Gone)?;
        let offset = file.metadata().map_err(BlobError::storage("reading an upload"))?.len();
        // A piece that was to be checked as a whole, and was not when its process died, does not count.
        let offset = offset.min(about.unchecked_from.unwrap_or(u64::MAX));
        if at != offset {
            return Err(UploadError::Elsewhere { offset });
        }
        let mut begin = || {
            file.set_len(offset)?;
            if is_checked || about.unchecked_from.is_some() {
                about.unchecked_from = is_checked.then_some(offset);
                entry.write_about(&about)?;
            }
            (&file).seek(SeekFrom::Start(offset))
        };
        begin().map_err(BlobError::storage("writing an upload"))?;
        Ok(Self { entry, about, file, at, is_checked })
    }

    pub(super) fn end(mut self, written: Result<(), BlobError>) -> Result<Upload, UploadError> {
        let counts = match &written {
            Ok(()) => true,
            Err(BlobError::Source(_) | BlobError::DiskFull) => !self.is_checked,
            Err(_) => false,
        };
        let storing = || BlobError::storage("writing an upload");
        if !counts {
            self.file.set_len(self.at).map_err(storing())?;
        }
        self.file.sync_all().map_err(storing())?;
        if self.is_checked {
            self.about.unchecked_from = None;
            self.entry.write_about(&self.about).map_err(storing())?;
        }
        written?;
        let offset = self.file.metadata().map_err(storing())?.len();
        if offset == self.about.announced.bytes {
            return self.entry.store(self.about, &self.file);
        }
        let expires_at = self.entry.expires_at(&self.file).map_err(storing())?;
        let state = UploadState::arriving(expires_at);
        Ok(Upload { id: self.entry.id, announced: self.about.announced, offset, state })
    }
}
