-- Finished jobs. Times are milliseconds since 1970 in UTC; tags, payload, progress, result, error, runs and flow are JSON.
-- Flow is how a job is tied to others, NULL if it stands alone. What is indexed is compared byte by byte, so that the
-- indexes outlive a change of the system's languages.
CREATE TABLE jobs (
    id             TEXT    COLLATE "C" NOT NULL PRIMARY KEY,
    version        BIGINT  NOT NULL,
    queue          TEXT    COLLATE "C" NOT NULL,
    kind           TEXT    COLLATE "C" NOT NULL,
    schema_version BIGINT  NOT NULL,
    state          TEXT    COLLATE "C" NOT NULL,
    error_code     TEXT    COLLATE "C",
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
    runs           TEXT    NOT NULL,
    tenant         TEXT    COLLATE "C",
    flow           TEXT,
    submitted_by   TEXT    COLLATE "C"
);

CREATE INDEX jobs_by_end ON jobs (queue, finished_at, id);
