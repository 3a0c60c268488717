//! The file, its tables, and the connections to it.

use std::{
    fs::{File, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{
    ConnectOptions, Connection, SqlSafeStr, SqlitePool,
    migrate::{Migration, MigrationType, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::RecordsError;

/// How long a writer waits for another one.
const BUSY: Duration = Duration::from_secs(5);

/// Readers do not wait for each other or for a writer; writers take turns.
const CONNECTIONS: u32 = 4;

/// In the order in which they are applied. A step that was released is never changed.
const STEPS: [(&str, &str); 3] = [
    ("jobs", include_str!("../migrations/sqlite/0001_jobs.sql")),
    ("tenants", include_str!("../migrations/sqlite/0002_tenants.sql")),
    ("flows", include_str!("../migrations/sqlite/0003_flows.sql")),
];

/// The records; cheap to clone.
#[derive(Debug, Clone)]
pub struct Records {
    pub(crate) pool: SqlitePool,
}

impl Records {
    /// Opens the file, which is made if it is not there, and brings its tables up to date.
    ///
    /// # Errors
    /// If the file cannot be used, or is of a newer version.
    pub async fn open(path: &Path) -> Result<Self, RecordsError> {
        let open = |source| RecordsError::Open { path: path.to_owned(), source };
        // In SQLite's own words a folder that is not there is "unable to open database file".
        let lock = lock(path.with_added_extension("lock")).await.map_err(open)?;
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
        migrations().run(&mut connection).await?;
        connection.close().await?;
        drop(lock);

        let pool = SqlitePoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(BUSY);
        Ok(Self { pool: pool.connect_with(options).await? })
    }

    /// Waits until everything that uses the records has ended, and closes the file.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

fn migrations() -> Migrator {
    let steps = STEPS.into_iter().zip(1..).map(|((name, sql), version)| {
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    });
    Migrator::with_migrations(steps.collect())
}

/// Waits until no other process prepares the file; until the lock is dropped, none does.
async fn lock(path: PathBuf) -> io::Result<File> {
    let locked = tokio::task::spawn_blocking(move || {
        let file = File::options().create(true).append(true).open(path)?;
        file.lock()?;
        Ok(file)
    });
    locked.await.map_err(io::Error::other)?
}
