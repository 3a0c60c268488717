//! What can go wrong with records.

use std::{io, path::PathBuf};

use sqlx::{error::DatabaseError, migrate::MigrateError, postgres::PgDatabaseError, sqlite::SqliteError};

/// Records could not be written or read; what could not be written whole left nothing behind.
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
    /// The server cannot be used.
    #[error("the records cannot be opened in PostgreSQL at {address}: {reason}")]
    Connect {
        /// Where it should be.
        address: String,
        /// What it says.
        reason: String,
    },
    /// The tables cannot be brought up to date.
    #[error("the tables of the records cannot be brought up to date: {0}; was a newer version of Fourmi here?")]
    Migrate(#[from] MigrateError),
    /// The database does not answer now, or not in time: trying again later may help.
    #[error("the records cannot be reached now: {0}")]
    Unavailable(#[source] sqlx::Error),
    /// The database refused.
    #[error("the records cannot be used: {0}")]
    Database(#[source] sqlx::Error),
    /// A row holds something that this version cannot read.
    #[error("the record of {row} cannot be read: {reason}")]
    Corrupt {
        /// Whose row it is, such as `job media-0198…`.
        row: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl From<sqlx::Error> for RecordsError {
    fn from(error: sqlx::Error) -> Self {
        if is_outage(&error) { Self::Unavailable(error) } else { Self::Database(error) }
    }
}

/// Whether it comes from the state of the database rather than from what it was asked.
fn is_outage(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => refused_for_now(error.as_ref()),
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => true,
        _ => false,
    }
}

fn refused_for_now(error: &dyn DatabaseError) -> bool {
    let code = error.code().unwrap_or_default();
    if error.try_downcast_ref::<PgDatabaseError>().is_some() {
        // Connection, identity, rollback, resources, intervention (as a time-out), system; a lock; a server that only reads.
        return ["08", "28", "40", "53", "57", "58"].iter().any(|class| code.starts_with(class))
            || ["55P03", "25006"].contains(&&*code);
    }
    // Busy, locked, no memory, input and output, full, cannot be opened: the low byte of an extended code.
    let is_sqlite = error.try_downcast_ref::<SqliteError>().is_some();
    is_sqlite && code.parse::<u32>().is_ok_and(|code| [5, 6, 7, 10, 13, 14].contains(&(code & 0xff)))
}
