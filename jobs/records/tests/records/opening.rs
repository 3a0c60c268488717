//! Records are made, brought up to date, or refused, when they are opened.

use std::{os::unix::fs::PermissionsExt, path::Path};

use fourmi_model::{Scope, Scopes, State};
use fourmi_records::{Added, Records, RecordsError, Rolled, Tenant};
use fourmi_tests::PostgresServer;
use jiff::SignedDuration;
use sqlx::{
    ConnectOptions, Connection, SqlSafeStr,
    migrate::{Migration, MigrationType, Migrator},
    sqlite::SqliteConnectOptions,
};
use tempfile::TempDir;

use crate::{
    jobs::record,
    place::{Place, in_every_database, time},
};

in_every_database!(
    tables_of_a_newer_version_are_refused,
    tenants_of_keys_of_an_earlier_version_are_adopted,
    keys_of_an_earlier_version_that_open_everything_still_do,
);

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

/// Tables of the version that had keys but no tenants, with these keys: their ids, tenants and scopes.
async fn write_keys_without_tenants(place: &Place, keys: &[(&str, Option<&str>, &str)]) {
    match place {
        Place::File(_) => {
            let options = SqliteConnectOptions::new().filename(place.location()).create_if_missing(true);
            let steps = [
                include_str!("../../migrations/sqlite/0001_jobs.sql"),
                include_str!("../../migrations/sqlite/0002_tenants.sql"),
                include_str!("../../migrations/sqlite/0003_flows.sql"),
                include_str!("../../migrations/sqlite/0004_callers.sql"),
                include_str!("../../migrations/sqlite/0005_keys.sql"),
                include_str!("../../migrations/sqlite/0006_lists.sql"),
            ];
            migrations(&steps).run(&mut options.connect().await.unwrap()).await.unwrap();
        }
        Place::Server(url) => {
            let steps = [
                include_str!("../../migrations/postgres/0001_jobs.sql"),
                include_str!("../../migrations/postgres/0002_keys.sql"),
                include_str!("../../migrations/postgres/0003_lists.sql"),
            ];
            migrations(&steps).run(&mut sqlx::PgConnection::connect(url).await.unwrap()).await.unwrap();
        }
    }
    for (number, (id, tenant, scopes)) in keys.iter().enumerate() {
        let tenant = tenant.map_or("NULL".to_owned(), |tenant| format!("'{tenant}'"));
        let created_at = time(i64::try_from(number).unwrap()).as_millisecond();
        let key = format!(
            "INSERT INTO api_keys (id, version, name, prefix, sha256, tenant, scopes, device, created_at) \
             VALUES ('{id}', 4, 'old', 'fourmi_', '{id}', {tenant}, '{scopes}', false, {created_at})"
        );
        place.run(&key).await.unwrap();
    }
}

async fn tenants_of_keys_of_an_earlier_version_are_adopted(place: Place) {
    let tenants = [None, Some("bakery"), Some("acme"), Some("Acme"), Some("acme")];
    let ids = ["a", "b", "c", "d", "e"];
    let keys: Vec<_> = ids.into_iter().zip(tenants).map(|(id, tenant)| (id, tenant, "[]")).collect();
    write_keys_without_tenants(&place, &keys).await;
    let records = place.open().await;
    let adopted = |name: &str, ms| Tenant {
        name: name.parse().unwrap(),
        version: 1,
        title: None,
        registration: false,
        app_url: None,
        created_at: time(ms),
        created_by: None,
        suspended_at: None,
    };
    let expected = [adopted("Acme", 3), adopted("acme", 2), adopted("bakery", 1)];
    assert_eq!(records.tenants(None, 10).await.unwrap(), expected, "as old as their oldest keys");
    assert!(!records.add_tenant(&adopted("ACME", 9)).await.unwrap());
    assert!(records.change_tenant(&Tenant { registration: true, ..adopted("acme", 2) }).await.unwrap());
}

async fn keys_of_an_earlier_version_that_open_everything_still_do(place: Place) {
    let all = r#"["jobs:submit","jobs:read","jobs:control","files:write","files:read","queues:read","queues:admin","keys:admin","public:read"]"#;
    let some = r#"["jobs:submit","keys:admin","public:read"]"#;
    write_keys_without_tenants(&place, &[("first", None, all), ("other", None, some)]).await;
    let records = place.open().await;
    let first = records.key("first").await.unwrap().unwrap();
    // By several steps, each of which brought scopes.
    assert_eq!((first.scopes, first.version), (Scopes::all(), 9), "who read it before has read another one");
    let other = records.key("other").await.unwrap().unwrap();
    let some = [Scope::JobsSubmit, Scope::KeysAdmin, Scope::PublicRead].into_iter().collect();
    assert_eq!((other.scopes, other.version), (some, 4));
    assert_eq!(records.keys_version().await.unwrap(), 5, "who keeps keys reads them again");
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
    // Nobody knows any more; its statistics are to be made all the same.
    expected.waited_ms = None;
    assert_eq!(records.job(&expected.job.id).await.unwrap().as_ref(), Some(&expected));
    let ended = expected.job.finished_at.unwrap();
    let rolled = records.roll_up(ended + SignedDuration::from_mins(5)).await.unwrap();
    assert_eq!(rolled, Added::Hour(Rolled { minutes: 1, too_late: 0 }));
}

fn migrations(steps: &[&'static str]) -> Migrator {
    let steps = steps.iter().zip(1..).map(|(sql, version)| {
        Migration::new(version, "old".into(), MigrationType::Simple, (*sql).into_sql_str(), false)
    });
    Migrator::with_migrations(steps.collect())
}

/// The rows of a new file as the first three steps had them: the ties held who submitted a job.
async fn write_as_version_three(new: &Path, old: &Path) {
    let steps = [
        include_str!("../../migrations/sqlite/0001_jobs.sql"),
        include_str!("../../migrations/sqlite/0002_tenants.sql"),
        include_str!("../../migrations/sqlite/0003_flows.sql"),
    ];
    let mut connection = SqliteConnectOptions::new().filename(old).create_if_missing(true).connect().await.unwrap();
    migrations(&steps).run(&mut connection).await.unwrap();
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
