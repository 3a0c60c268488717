//! Where records are.

use fourmi_records::Records;
use fourmi_tests::PostgresServer;
use futures_util::future::join_all;
use jiff::Timestamp;
use sqlx::{ConnectOptions, Connection, PgConnection, sqlite::SqliteConnectOptions};
use tempfile::TempDir;

/// A database of a test's own.
pub(crate) enum Place {
    File(TempDir),
    Server(String),
}

impl Place {
    pub(crate) fn file() -> Self {
        Self::File(TempDir::new().unwrap())
    }

    pub(crate) fn server() -> Self {
        Self::Server(PostgresServer::shared().database())
    }

    /// The path of the file, or the URL.
    pub(crate) fn location(&self) -> String {
        match self {
            Self::File(folder) => folder.path().join("records.db").to_str().unwrap().to_owned(),
            Self::Server(url) => url.clone(),
        }
    }

    /// As another program would.
    pub(crate) async fn open(&self) -> Records {
        match self {
            Self::File(_) => Records::open(self.location().as_ref()).await.unwrap(),
            Self::Server(url) => Records::connect(url).await.unwrap(),
        }
    }

    /// Runs a statement behind the back of the records.
    pub(crate) async fn run(&self, statement: &str) -> Result<(), sqlx::Error> {
        let statement = sqlx::raw_sql(sqlx::AssertSqlSafe(statement));
        match self {
            Self::File(_) => {
                let options = SqliteConnectOptions::new().filename(self.location());
                statement.execute(&mut options.connect().await?).await.map(drop)
            }
            Self::Server(url) => statement.execute(&mut PgConnection::connect(url).await?).await.map(drop),
        }
    }

    /// What several programs do at once, each of which is connected already.
    pub(crate) async fn at_once<T, F>(&self, count: usize, task: impl Fn(usize, Records) -> F) -> Vec<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let mut programs = Vec::new();
        for _ in 0..count {
            let records = self.open().await;
            records.ping().await.unwrap();
            programs.push(records);
        }
        let tasks = programs.into_iter().enumerate().map(|(number, records)| tokio::spawn(task(number, records)));
        let tasks: Vec<_> = tasks.collect();
        join_all(tasks).await.into_iter().map(Result::unwrap).collect()
    }
}

/// Makes a test of each case and database.
macro_rules! in_every_database {
    ($($case:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test] async fn $case() { super::$case($crate::place::Place::file()).await; })+
        }
        mod postgres {
            $(#[tokio::test] async fn $case() { super::$case($crate::place::Place::server()).await; })+
        }
    };
}

pub(crate) use in_every_database;

pub(crate) fn time(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(1_800_000_000_000 + ms).unwrap()
}
