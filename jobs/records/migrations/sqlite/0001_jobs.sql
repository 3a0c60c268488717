-- Finished jobs. Times are milliseconds since 1970 in UTC; tags, payload, progress, result, error and runs are JSON.
CREATE TABLE jobs (
    id             TEXT    NOT NULL PRIMARY KEY,
    version        BIGINT  NOT NULL,
    queue          TEXT    NOT NULL,
    kind           TEXT    NOT NULL,
    schema_version BIGINT  NOT NULL,
    state          TEXT    NOT NULL,
    error_code     TEXT,
    priority       TEXT    NOT NULL,
    tags           TEXT    NOT NULL,
    correlation_id TEXT,
    run            BIGINT  NOT NULL,
    attempts       BIGINT  NOT NULL,
    crashes        BIGINT  NOT NULL,
    created_at     BIGINT  NOT NULL,
    started_at     BIGINT,
    finished_at    BIGINT  NOT NULL,
    deadline       BIGINT,
    worker         TEXT,
    payload        TEXT    NOT NULL,
    progress       TEXT,
    result         TEXT,
    error          TEXT,
    runs           TEXT    NOT NULL
);

CREATE INDEX jobs_by_end ON jobs (queue, finished_at, id);
