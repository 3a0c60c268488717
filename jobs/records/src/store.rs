//! The database behind the records, and how it is asked: the same statements, whichever it is.

use std::{io, path::Path, time::Duration};

use sqlx::{PgConnection, PgPool, SqliteConnection, postgres::PgRow, sqlite::SqliteRow};

use crate::{
    RecordsError, postgres,
    row::Cells,
    sqlite::Sqlite,
    statement::{Statement, query_of},
};

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

    /// How the connections to the database are used now.
    pub fn connections(&self) -> Connections {
        match &self.store {
            Store::Sqlite(sqlite) => sqlite.pools().into_iter().map(Connections::of).sum(),
            Store::Postgres(pool) => Connections::of(pool),
        }
    }

    /// Waits until everything that uses the records has ended, and closes them.
    pub async fn close(&self) {
        match &self.store {
            Store::Sqlite(sqlite) => sqlite.close().await,
            Store::Postgres(pool) => pool.close().await,
        }
    }
}

/// How the connections of this process to the database are used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Connections {
    /// Those that somebody uses.
    pub busy: u64,
    /// Those that are open and nobody uses.
    pub idle: u64,
    /// As many as there may be.
    pub most: u64,
}

impl Connections {
    fn of<DB: sqlx::Database>(pool: &sqlx::Pool<DB>) -> Self {
        let (open, idle) = (u64::from(pool.size()), pool.num_idle() as u64);
        Self { busy: open.saturating_sub(idle), idle, most: u64::from(pool.options().get_max_connections()) }
    }
}

impl std::iter::Sum for Connections {
    fn sum<I: Iterator<Item = Self>>(pools: I) -> Self {
        pools.fold(Self::default(), |all, pool| Self {
            busy: all.busy + pool.busy,
            idle: all.idle + pool.idle,
            most: all.most + pool.most,
        })
    }
}

/// Deleting and archiving exclude each other, so that neither misses what the other does. Both last until the end of the
/// transaction.
pub(crate) trait Deletions {
    /// For who archives.
    async fn keep_out_deletions(&mut self) -> Result<(), sqlx::Error>;

    /// For who deletes.
    async fn keep_out_archiving(&mut self) -> Result<(), sqlx::Error>;
}

/// Whoever writes is alone.
impl Deletions for SqliteConnection {
    async fn keep_out_deletions(&mut self) -> Result<(), sqlx::Error> {
        Ok(())
    }

    async fn keep_out_archiving(&mut self) -> Result<(), sqlx::Error> {
        Ok(())
    }
}

/// By a lock on a number, which is nobody else's in a database of Fourmi's own.
impl Deletions for PgConnection {
    async fn keep_out_deletions(&mut self) -> Result<(), sqlx::Error> {
        sqlx::query("SELECT pg_advisory_xact_lock_shared(7363)").execute(self).await.map(drop)
    }

    async fn keep_out_archiving(&mut self) -> Result<(), sqlx::Error> {
        sqlx::query("SELECT pg_advisory_xact_lock(7363)").execute(self).await.map(drop)
    }
}

/// A change of several steps, of which some depend on what others find: a transaction of whichever database.
pub(crate) trait Change {
    /// What it reads.
    type Row: Cells;

    /// Runs a statement, and gives how many rows it changed.
    async fn run(&mut self, statement: Statement) -> Result<u64, sqlx::Error>;

    /// The rows that a statement gives.
    async fn rows(&mut self, statement: Statement) -> Result<Vec<Self::Row>, sqlx::Error>;

    /// The row that a statement gives, if it gives any.
    async fn row(&mut self, statement: Statement) -> Result<Option<Self::Row>, sqlx::Error>;

    /// Waits until no other change has the turn of this name, and keeps it until the end of the transaction. What is read
    /// afterwards is as the others left it. Who takes several takes them in this order: [`SUPER_ADMINS`], [`PRUNING`], that
    /// of a person, which is their id.
    async fn take_turn(&mut self, name: &str) -> Result<(), sqlx::Error>;
}

/// The turn of who may leave the platform without a super admin.
pub(crate) const SUPER_ADMINS: &str = "super admins";

/// The turn of who deletes rows of several people, or many of one, so that no two wait for each other.
pub(crate) const PRUNING: &str = "pruning";

/// Whoever writes is alone.
impl Change for SqliteConnection {
    type Row = SqliteRow;

    async fn run(&mut self, statement: Statement) -> Result<u64, sqlx::Error> {
        Ok(query_of!(statement).execute(self).await?.rows_affected())
    }

    async fn rows(&mut self, statement: Statement) -> Result<Vec<SqliteRow>, sqlx::Error> {
        query_of!(statement).fetch_all(self).await
    }

    async fn row(&mut self, statement: Statement) -> Result<Option<SqliteRow>, sqlx::Error> {
        query_of!(statement).fetch_optional(self).await
    }

    async fn take_turn(&mut self, _: &str) -> Result<(), sqlx::Error> {
        Ok(())
    }
}

/// A turn is a lock on two numbers. Names that share one wait for each other without need, which harms nobody.
impl Change for PgConnection {
    type Row = PgRow;

    async fn run(&mut self, statement: Statement) -> Result<u64, sqlx::Error> {
        Ok(query_of!(statement).execute(self).await?.rows_affected())
    }

    async fn rows(&mut self, statement: Statement) -> Result<Vec<PgRow>, sqlx::Error> {
        query_of!(statement).fetch_all(self).await
    }

    async fn row(&mut self, statement: Statement) -> Result<Option<PgRow>, sqlx::Error> {
        query_of!(statement).fetch_optional(self).await
    }

    async fn take_turn(&mut self, name: &str) -> Result<(), sqlx::Error> {
        self.run(Statement::of("SELECT pg_advisory_xact_lock(7363, hashtext($1))").with(name)).await.map(drop)
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
