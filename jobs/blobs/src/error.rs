//! What can go wrong with stored files.

use std::io;

/// A file could not be stored or read; a file that could not be stored left nothing behind.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlobError {
    /// The content is larger than the caller allows.
    #[error("the file is larger than {max_bytes} bytes")]
    TooLarge {
        /// What is allowed.
        max_bytes: u64,
    },
    /// The content is not what the caller expects.
    #[error("the content's SHA-256 is {actual}, not {expected}")]
    ChecksumMismatch {
        /// The SHA-256 that was expected, in lower-case hexadecimal digits.
        expected: String,
        /// That of the content.
        actual: String,
    },
    /// The disk, or the share of it that we may use, is full.
    #[error("the disk is full")]
    DiskFull,
    /// The content could not be read to its end.
    #[error("the content could not be read to its end: {0}")]
    Source(#[source] io::Error),
    /// The folder could not be read or written.
    #[error("{doing}: {source}")]
    Storage {
        /// What was being done.
        doing: &'static str,
        /// What the system says.
        source: io::Error,
    },
}

/// A piece of an upload could not be taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UploadError {
    /// There is no such upload, or nothing of it is kept any more.
    #[error("there is no such upload")]
    Gone,
    /// Another piece of it is arriving, here or in another process.
    #[error("another piece of the upload is arriving")]
    Locked,
    /// The piece does not begin where the upload ends.
    #[error("the upload has {offset} bytes so far")]
    Elsewhere {
        /// Where it ends.
        offset: u64,
    },
    /// It could not be stored; after [`BlobError::Source`] and [`BlobError::DiskFull`] what had arrived is kept.
    #[error(transparent)]
    Blob(#[from] BlobError),
}

impl BlobError {
    /// For `map_err`: the system's error while we were `doing` something.
    pub(crate) fn storage(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull,
            _ => Self::Storage { doing, source },
        }
    }
}
