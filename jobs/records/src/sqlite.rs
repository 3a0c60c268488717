//! A file of SQLite: its tables, the connections to it, and how the processes that share it take turns.

use std::{
    fs::{File, Permissions, TryLockError},
    io,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::Arc,
    time::Duration,
};

use sqlx::{
    ConnectOptions, Connection, SqlSafeStr, SqlitePool, Transaction,
    migrate::{Migration, MigrationType, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    task::spawn_blocking,
};

use crate::{
    RecordsError,
    store::{CONNECTION, WRITING},
};

/// How long SQLite waits by itself. Writers wait for their turn elsewhere; this is for what else may lock the file for a
/// moment, such as a process that ends, or a backup.
const BUSY: Duration = Duration::from_secs(5);

/// A transaction that begins by reading could not wait for another writer.
const BEGIN: &str = "BEGIN IMMEDIATE";

/// Readers do not wait for each other or for a writer.
const READERS: u32 = 4;

/// In the order in which they are applied. A step that was released is never changed.
const STEPS: [(&str, &str); 17] = [
    ("jobs", include_str!("../migrations/sqlite/0001_jobs.sql")),
    ("tenants", include_str!("../migrations/sqlite/0002_tenants.sql")),
    ("flows", include_str!("../migrations/sqlite/0003_flows.sql")),
    ("callers", include_str!("../migrations/sqlite/0004_callers.sql")),
    ("keys", include_str!("../migrations/sqlite/0005_keys.sql")),
    ("lists", include_str!("../migrations/sqlite/0006_lists.sql")),
    ("people", include_str!("../migrations/sqlite/0007_people.sql")),
    ("tenants and audit", include_str!("../migrations/sqlite/0008_tenants.sql")),
    ("metrics", include_str!("../migrations/sqlite/0009_metrics.sql")),
    ("webhooks", include_str!("../migrations/sqlite/0010_webhooks.sql")),
    ("kinds", include_str!("../migrations/sqlite/0011_kinds.sql")),
    ("schedules", include_str!("../migrations/sqlite/0012_schedules.sql")),
    ("retention and statistics", include_str!("../migrations/sqlite/0013_retention.sql")),
    ("messaging", include_str!("../migrations/sqlite/0014_messaging.sql")),
    ("checks of providers", include_str!("../migrations/sqlite/0015_provider_checks.sql")),
    ("decisions on text messages", include_str!("../migrations/sqlite/0016_sms_decisions.sql")),
    ("claims of alerts", include_str!("../migrations/sqlite/0017_chat_claims.sql")),
];

/// An open file.
#[derive(Debug, Clone)]
pub(crate) struct Sqlite {
    pub(crate) readers: SqlitePool,
    writer: SqlitePool,
    turns: Turns,
}

impl Sqlite {
    pub(crate) async fn open(path: &Path) -> Result<Self, RecordsError> {
        let open = |source| RecordsError::Open { path: path.to_owned(), source };
        // In SQLite's own words a folder that is not there is "unable to open database file".
        let turns = Turns::open(&path.with_added_extension("lock")).map_err(open)?;
        let turn = turns.take().await.map_err(open)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .busy_timeout(BUSY)
            // Who is told that a batch is written forgets it: it must be on the disk.
            .synchronous(SqliteSynchronous::Full)
            .disable_statement_logging();

        // Entering the mode cannot be waited for, so it is done once, alone; the file remembers it.
        let mut connection = options.clone().journal_mode(SqliteJournalMode::Wal).connect().await?;
        std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(open)?;
        // `run` would make futures that the compiler does not let move between threads.
        migrations().run_direct(None, &mut connection, false).await?;
        connection.close().await?;
        drop(turn);

        let readers = SqlitePoolOptions::new().max_connections(READERS).acquire_timeout(CONNECTION);
        let writer = SqlitePoolOptions::new().max_connections(1).acquire_timeout(WRITING);
        Ok(Self {
            readers: readers.connect_lazy_with(options.clone()),
            writer: writer.connect_lazy_with(options),
            turns,
        })
    }

    /// Begins a change when it is this process's turn, which lasts until the first of the two is dropped.
    pub(crate) async fn begin(&self) -> Result<(Turn, Transaction<'static, sqlx::Sqlite>), RecordsError> {
        let turn = self.turns.take().await.map_err(sqlx::Error::Io)?;
        match self.writer.begin_with(BEGIN).await {
            // When the disk is full SQLite undoes a change by itself, and sqlx takes it for one that goes on.
            Err(sqlx::Error::InvalidSavePointStatement) => {
                self.writer.acquire().await?.detach().close_hard().await?;
                Ok((turn, self.writer.begin_with(BEGIN).await?))
            }
            begun => Ok((turn, begun?)),
        }
    }

    pub(crate) fn pools(&self) -> [&SqlitePool; 2] {
        [&self.readers, &self.writer]
    }

    pub(crate) async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

fn migrations() -> Migrator {
    let steps = STEPS.into_iter().zip(1..).map(|((name, sql), version)| {
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    });
    Migrator::with_migrations(steps.collect())
}

/// Who writes locks a file beside the records. SQLite would do without, but it looks for its turn ten times a second at
/// most, so that somebody who is unlucky under load never gets it; the system wakes who waits.
#[derive(Debug, Clone)]
struct Turns(Arc<Mutex<File>>);

/// The right to write, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn(OwnedMutexGuard<File>);

impl Turns {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().create(true).append(true).open(path)?;
        Ok(Self(Arc::new(Mutex::new(file))))
    }

    async fn take(&self) -> io::Result<Turn> {
        let file = Arc::clone(&self.0).lock_owned().await;
        match file.try_lock() {
            Ok(()) => Ok(Turn(file)),
            Err(TryLockError::Error(error)) => Err(error),
            // One thread waits at most: it keeps the others of this process out, even if nobody waits for it any more.
            Err(TryLockError::WouldBlock) => {
                let locked = spawn_blocking(move || file.lock().map(|()| Turn(file)));
                locked.await.map_err(io::Error::other)?
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // If the system refuses, the lock ends with the process.
        let _ = self.0.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_full_disk_has_undone_is_in_nobodys_way() {
        let folder = tempfile::TempDir::new().unwrap();
        let sqlite = Sqlite::open(&folder.path().join("records.db")).await.unwrap();
        let insert = |id: String| sqlx::query("INSERT INTO deleted_jobs (id, deleted_at) VALUES ($1, 0)").bind(id);
        let (turn, mut transaction) = sqlite.begin().await.unwrap();
        // As large as it is and no larger, for this connection.
        sqlx::query("PRAGMA max_page_count = 1").execute(&mut *transaction).await.unwrap();
        let full = insert("x".repeat(1_000_000)).execute(&mut *transaction).await.unwrap_err();
        assert!(full.to_string().contains("full"), "{full}");
        drop((transaction, turn));
        for n in 0..4 {
            let (_turn, mut transaction) = sqlite.begin().await.unwrap();
            insert(format!("{n}")).execute(&mut *transaction).await.unwrap();
            transaction.commit().await.unwrap();
        }
    }
}
