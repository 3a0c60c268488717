//! What can go wrong with records.

use std::{io, path::PathBuf};

use fourmi_model::JobId;
use sqlx::migrate::MigrateError;

/// Records could not be written or read; a batch that could not be written left nothing behind.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordsError {
    /// The file cannot be opened.
    #[error("the records cannot be opened at {}: {source}", .path.display())]
    Open {
        /// Where it should be.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The tables cannot be brought up to date.
    #[error("the tables of the records cannot be brought up to date: {0}; was a newer version of Fourmi here?")]
    Migrate(#[from] MigrateError),
    /// The database refused, or did not answer.
    #[error("the records cannot be used now: {0}")]
    Database(#[from] sqlx::Error),
    /// A row holds something that this version cannot read.
    #[error("the record of job {0} cannot be read: {1}")]
    Corrupt(JobId, String),
}
