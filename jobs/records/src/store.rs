//! The database behind the records, and how it is asked: the same statements, whichever it is.

use std::{io, path::Path, time::Duration};

use sqlx::PgPool;

use crate::{RecordsError, postgres, sqlite::Sqlite};

/// How long a connection is waited for.
pub(crate) const CONNECTION: Duration = Duration::from_secs(2);

/// The longest that a question takes.
pub(crate) const READING: Duration = Duration::from_secs(5);

/// The longest that a change takes: others may be at it.
pub(crate) const WRITING: Duration = Duration::from_secs(30);

/// The records; cheap to clone.
#[derive(Debug, Clone)]
pub struct Records {
    pub(crate) store: Store,
}

#[derive(Debug, Clone)]
pub(crate) enum Store {
    Sqlite(Sqlite),
    Postgres(PgPool),
}

impl Records {
    /// Opens a file of SQLite, which is made if it is not there, and brings its tables up to date.
    ///
    /// # Errors
    /// If the file cannot be used, or is of a newer version.
    pub async fn open(path: &Path) -> Result<Self, RecordsError> {
        Ok(Self { store: Store::Sqlite(Sqlite::open(path).await?) })
    }

    /// Connects to a database of PostgreSQL, 13 or later, and brings its tables up to date.
    ///
    /// # Errors
    /// If this is no URL of such a database, it cannot be used now, or its tables are of a newer version.
    pub async fn connect(url: &str) -> Result<Self, RecordsError> {
        Ok(Self { store: Store::Postgres(postgres::connect(url).await?) })
    }

    /// Asks whether the database answers.
    ///
    /// # Errors
    /// If it does not.
    pub async fn ping(&self) -> Result<(), RecordsError> {
        reading!(self, |db| sqlx::query("SELECT 1").execute(db).await.map(drop)?)
    }

    /// Waits until everything that uses the records has ended, and closes them.
    pub async fn close(&self) {
        match &self.store {
            Store::Sqlite(sqlite) => sqlite.close().await,
            Store::Postgres(pool) => pool.close().await,
        }
    }
}

/// Asks whichever database it is, which the expression sees as an executor of `sqlx`. `?` ends the question.
macro_rules! reading {
    ($records:expr, |$db:ident| $question:expr) => {
        $crate::store::in_time($crate::store::READING, async {
            Ok(match &$records.store {
                $crate::store::Store::Sqlite(sqlite) => {
                    let $db = &sqlite.readers;
                    $question
                }
                $crate::store::Store::Postgres(pool) => {
                    let $db = pool;
                    $question
                }
            })
        })
        .await
    };
}

/// Changes whichever database it is in one transaction, which the expression sees as a connection of `sqlx`. `?` leaves
/// everything as it was.
macro_rules! writing {
    ($records:expr, |$db:ident| $change:expr) => {
        $crate::store::in_time($crate::store::WRITING, async {
            Ok(match &$records.store {
                $crate::store::Store::Sqlite(sqlite) => {
                    let (_turn, mut transaction) = sqlite.begin().await?;
                    let $db = &mut *transaction;
                    let done = $change;
                    transaction.commit().await?;
                    done
                }
                $crate::store::Store::Postgres(pool) => {
                    let mut transaction = pool.begin().await?;
                    let $db = &mut *transaction;
                    let done = $change;
                    transaction.commit().await?;
                    done
                }
            })
        })
        .await
    };
}

pub(crate) use {reading, writing};

/// What the database answers, unless it hangs.
pub(crate) async fn in_time<T>(
    longest: Duration,
    answer: impl Future<Output = Result<T, RecordsError>>,
) -> Result<T, RecordsError> {
    let late = |_| {
        let late = io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", longest.as_secs()));
        Err(RecordsError::Unavailable(late.into()))
    };
    tokio::time::timeout(longest, answer).await.unwrap_or_else(late)
}
