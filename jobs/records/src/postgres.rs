//! A database of PostgreSQL: its tables, and the connections to it.

use std::{io, time::Duration};

use sqlx::{
    ConnectOptions, Connection, PgConnection, PgPool, SqlSafeStr,
    migrate::{Migration, MigrationType, Migrator},
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::time::timeout;

use crate::{RecordsError, store::CONNECTION};

/// PostgreSQL 13.
const OLDEST: u32 = 130_000;

/// How long the first connection may take.
const FIRST: Duration = Duration::from_secs(10);

/// Connections of one process: it moves batches and answers short questions.
const CONNECTIONS: u32 = 8;

/// Nobody waits longer: a statement goes no further, and what was begun is undone.
const LIMITS: &str = "SET statement_timeout = '10s'; SET idle_in_transaction_session_timeout = '30s'";

/// In the order in which they are applied. A step that was released is never changed.
const STEPS: [(&str, &str); 14] = [
    ("jobs", include_str!("../migrations/postgres/0001_jobs.sql")),
    ("keys", include_str!("../migrations/postgres/0002_keys.sql")),
    ("lists", include_str!("../migrations/postgres/0003_lists.sql")),
    ("people", include_str!("../migrations/postgres/0004_people.sql")),
    ("tenants and audit", include_str!("../migrations/postgres/0005_tenants.sql")),
    ("metrics", include_str!("../migrations/postgres/0006_metrics.sql")),
    ("webhooks", include_str!("../migrations/postgres/0007_webhooks.sql")),
    ("kinds", include_str!("../migrations/postgres/0008_kinds.sql")),
    ("schedules", include_str!("../migrations/postgres/0009_schedules.sql")),
    ("retention and statistics", include_str!("../migrations/postgres/0010_retention.sql")),
    ("messaging", include_str!("../migrations/postgres/0011_messaging.sql")),
    ("checks of providers", include_str!("../migrations/postgres/0012_provider_checks.sql")),
    ("decisions on text messages", include_str!("../migrations/postgres/0013_sms_decisions.sql")),
    ("claims of alerts", include_str!("../migrations/postgres/0014_chat_claims.sql")),
];

/// Brings the tables up to date, one process at a time; gives connections that are made when they are needed.
pub(crate) async fn connect(url: &str) -> Result<PgPool, RecordsError> {
    // The URL may hold a password, and errors of reading it may hold parts of the URL.
    let nonsense = |_| RecordsError::Connect { address: "an address that cannot be read".into(), reason: FORM.into() };
    let mut options: PgConnectOptions = url.parse().map_err(nonsense)?;
    options = options.disable_statement_logging();
    if options.get_application_name().is_none() {
        options = options.application_name("fourmi");
    }
    prepare(&options).await?;

    let pool = PgPoolOptions::new()
        .max_connections(CONNECTIONS)
        .acquire_timeout(CONNECTION)
        .after_connect(|connection, _| Box::pin(async { sqlx::raw_sql(LIMITS).execute(connection).await.map(drop) }))
        // A connection whose server hangs would hang with it, and its place would be lost.
        .after_release(|connection, _| Box::pin(async { answers(connection).await.map(|()| true) }));
    Ok(pool.connect_lazy_with(options))
}

const FORM: &str = "it should look like postgres://user:password@host:5432/database";

async fn prepare(options: &PgConnectOptions) -> Result<(), RecordsError> {
    let refused = |reason: String| RecordsError::Connect { address: address(options), reason };
    let connection = timeout(FIRST, PgConnection::connect_with(options)).await;
    let mut connection = connection
        .map_err(|_| refused(format!("no answer within {} s", FIRST.as_secs())))?
        .map_err(|error| refused(error.to_string()))?;
    if let Some(version @ ..OLDEST) = connection.server_version_num() {
        return Err(refused(format!("it is version {}; 13 or later is needed", version / 10_000)));
    }
    // `run` would make futures that the compiler does not let move between threads.
    migrations().run_direct(None, &mut connection, false).await?;
    Ok(connection.close().await?)
}

/// Where a server is, without what must not be shown.
fn address(options: &PgConnectOptions) -> String {
    let database = options.get_database().unwrap_or(options.get_username());
    match options.get_socket() {
        Some(socket) => format!("{}, database {database}", socket.display()),
        None => format!("{}:{}, database {database}", options.get_host(), options.get_port()),
    }
}

async fn answers(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let late = |_| Err(io::Error::new(io::ErrorKind::TimedOut, "the server does not answer").into());
    timeout(CONNECTION, connection.ping()).await.unwrap_or_else(late)
}

fn migrations() -> Migrator {
    let steps = STEPS.into_iter().zip(1..).map(|((name, sql), version)| {
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    });
    Migrator::with_migrations(steps.collect())
}
