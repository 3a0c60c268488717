//! Records are made, brought up to date, or refused, when they are opened.

use std::{os::unix::fs::PermissionsExt, path::Path};

use fourmi_model::State;
use fourmi_records::{Records, RecordsError};
use fourmi_tests::PostgresServer;
use sqlx::{
    ConnectOptions, Connection, SqlSafeStr,
    migrate::{Migration, MigrationType, Migrator},
    sqlite::SqliteConnectOptions,
};
use tempfile::TempDir;

use crate::{
    jobs::record,
    place::{Place, in_every_database},
};

in_every_database!(tables_of_a_newer_version_are_refused);

async fn tables_of_a_newer_version_are_refused(place: Place) {
    place.open().await.close().await;
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                 VALUES (999, 'later', true, '', 0)";
    let opened = match &place {
        Place::File(folder) => {
            let path = folder.path().join("records.db");
            let mut connection = SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
            sqlx::query(newer).execute(&mut connection).await.unwrap();
            Records::open(&path).await
        }
        Place::Server(url) => {
            let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
            sqlx::query(newer).execute(&mut connection).await.unwrap();
            Records::connect(url).await
        }
    };
    let error = opened.unwrap_err();
    assert!(matches!(error, RecordsError::Migrate(_)) && error.to_string().contains("newer version"), "{error}");
}

#[tokio::test]
async fn a_file_is_private() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("records.db");
    Records::open(&path).await.unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600, "payloads are private");
}

#[tokio::test]
async fn a_file_of_an_earlier_version_is_brought_up_to_date() {
    let folder = TempDir::new().unwrap();
    let (old, new) = (folder.path().join("old.db"), folder.path().join("new.db"));
    let mut expected = record(State::Failed, 7);
    Records::open(&new).await.unwrap().archive(std::slice::from_ref(&expected)).await.unwrap();
    write_as_version_three(&new, &old).await;

    let records = Records::open(&old).await.unwrap();
    expected.job.submitted_by = Some("key-of-old".into());
    assert_eq!(records.job(&expected.job.id).await.unwrap(), Some(expected));
}

/// The rows of a new file as the first three steps had them: the ties held who submitted a job.
async fn write_as_version_three(new: &Path, old: &Path) {
    let steps = [
        include_str!("../../migrations/sqlite/0001_jobs.sql"),
        include_str!("../../migrations/sqlite/0002_tenants.sql"),
        include_str!("../../migrations/sqlite/0003_flows.sql"),
    ];
    let steps = steps
        .into_iter()
        .zip(1..)
        .map(|(sql, version)| Migration::new(version, "old".into(), MigrationType::Simple, sql.into_sql_str(), false));
    let mut connection = SqliteConnectOptions::new().filename(old).create_if_missing(true).connect().await.unwrap();
    Migrator::with_migrations(steps.collect()).run(&mut connection).await.unwrap();
    sqlx::query("ATTACH $1 AS new").bind(new.to_str().unwrap()).execute(&mut connection).await.unwrap();
    let copy = "INSERT INTO main.jobs SELECT id, version, queue, kind, schema_version, state, error_code, priority, tags, \
        correlation_id, run, attempts, crashes, created_at, started_at, finished_at, deadline, worker, payload, progress, \
        result, error, runs, tenant, json_set(coalesce(flow, '{}'), '$.submitted_by', 'key-of-old') FROM new.jobs";
    sqlx::query(copy).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_opened_is_named() {
    let folder = TempDir::new().unwrap();
    let error = Records::open(&folder.path().join("nowhere/records.db")).await.unwrap_err();
    assert!(matches!(&error, RecordsError::Open { .. }) && error.to_string().contains("nowhere"), "{error}");
    let nonsense = "a text that is no database, long enough to have a header".repeat(9);
    std::fs::write(folder.path().join("records.db"), nonsense).unwrap();
    let error = Records::open(&folder.path().join("records.db")).await.unwrap_err();
    assert!(error.to_string().contains("not a database"), "{error}");
}

#[tokio::test]
async fn a_server_that_cannot_be_used_is_named_without_its_password() {
    let server = PostgresServer::shared().url("nowhere");
    for (url, words) in [
        (format!("{server}&password=hunter2"), "\"nowhere\" does not exist"),
        ("postgres://me:hunter2@127.0.0.1:1/records".to_owned(), "127.0.0.1:1, database records"),
        ("postgres:///records?host=/nowhere&password=hunter2".to_owned(), "/nowhere, database records"),
        ("postgres://me:hunter2@[::1/records".to_owned(), "should look like postgres://"),
        ("postgres://me@host/records?sslmode=hunter2".to_owned(), "should look like postgres://"),
    ] {
        let error = Records::connect(&url).await.unwrap_err();
        assert!(matches!(error, RecordsError::Connect { .. }), "{error:?}");
        assert!(error.to_string().contains(words) && !error.to_string().contains("hunter2"), "{error}");
    }
}
