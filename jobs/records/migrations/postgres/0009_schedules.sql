-- Schedules. Times are milliseconds since 1970 in UTC; rules and jobs are JSON. No tenant is the empty text.
CREATE TABLE schedules (
    id             TEXT    COLLATE "C" NOT NULL PRIMARY KEY,
    version        BIGINT  NOT NULL,
    tenant         TEXT    COLLATE "C" NOT NULL,
    name           TEXT    COLLATE "C" NOT NULL,
    own_only       BOOLEAN NOT NULL,
    rule           TEXT    NOT NULL,
    overlap        TEXT    NOT NULL,
    missed         TEXT    NOT NULL,
    missed_limit   BIGINT  NOT NULL,
    paused         BOOLEAN NOT NULL,
    job            TEXT    NOT NULL,
    -- What the kind says of the job.
    order_form     TEXT    NOT NULL,
    -- The tick that nobody has dealt with yet, and when its job is to be made.
    next_tick      BIGINT,
    due_at         BIGINT,
    last_fired_at  BIGINT,
    last_job       TEXT,
    created_at     BIGINT  NOT NULL,
    created_by     TEXT    COLLATE "C" NOT NULL
);
CREATE UNIQUE INDEX schedules_by_name ON schedules (tenant, name);
CREATE INDEX schedules_by_due ON schedules (due_at, id) WHERE due_at IS NOT NULL;
CREATE INDEX schedules_by_creator ON schedules (created_by);

-- Ticks, and what became of them.
CREATE TABLE schedule_fires (
    schedule_id    TEXT    COLLATE "C" NOT NULL,
    tick           BIGINT  NOT NULL,
    by_hand        BOOLEAN NOT NULL,
    outcome        TEXT    NOT NULL,
    at             BIGINT  NOT NULL,
    job            TEXT,
    error          TEXT,
    PRIMARY KEY (schedule_id, tick, by_hand)
);

-- A key that opens everything opens what is new, too.
UPDATE api_keys SET version = version + 1, scopes = replace(scopes, '"webhooks:write"', '"webhooks:write","schedules:write"')
WHERE scopes LIKE '%"tenants:admin",%' AND scopes LIKE '%"keys:admin"%' AND scopes LIKE '%"users:admin"%'
  AND scopes LIKE '%"audit:read"%' AND scopes LIKE '%"queues:admin"%' AND scopes LIKE '%"webhooks:write"%';
UPDATE api_key_changes SET number = number + 1;
