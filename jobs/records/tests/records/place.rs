//! Where records are.

use fourmi_records::Records;
use fourmi_tests::PostgresServer;
use jiff::Timestamp;
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

    /// As another program would.
    pub(crate) async fn open(&self) -> Records {
        match self {
            Self::File(folder) => Records::open(&folder.path().join("records.db")).await.unwrap(),
            Self::Server(url) => Records::connect(url).await.unwrap(),
        }
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
