-- How long the newest run of a job waited since it could start, in milliseconds.
ALTER TABLE jobs ADD COLUMN waited_ms BIGINT;

-- Finished jobs, added up by minute, hour and day (step, in seconds) of their end. At is where the step begins, in
-- milliseconds since 1970. No tenant is the empty text. Waits and runs are histograms: JSON.
CREATE TABLE job_stats (
    step   BIGINT NOT NULL,
    at     BIGINT NOT NULL,
    queue  TEXT   NOT NULL,
    kind   TEXT   NOT NULL,
    tenant TEXT   NOT NULL,
    state  TEXT   NOT NULL,
    jobs   BIGINT NOT NULL,
    waits  TEXT   NOT NULL,
    runs   TEXT   NOT NULL,
    PRIMARY KEY (step, at, queue, kind, tenant, state)
) WITHOUT ROWID;

-- Minutes whose jobs have changed since they were added up: a row for each batch of changes.
CREATE TABLE job_stats_due (
    minute BIGINT NOT NULL,
    change BIGINT NOT NULL,
    PRIMARY KEY (minute, change)
) WITHOUT ROWID;
INSERT INTO job_stats_due (minute, change) SELECT DISTINCT finished_at / 60000 * 60000, 0 FROM jobs;

-- What is older than this may be gone, by class: 'jobs', 'events', 'minutes' (of statistics).
CREATE TABLE kept_since (
    class TEXT   NOT NULL PRIMARY KEY,
    time  BIGINT NOT NULL
);

-- Events that are older than the log goes back may be deleted.
DROP TRIGGER audit_is_not_deleted;
CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit_events
WHEN NOT EXISTS (SELECT 1 FROM kept_since WHERE class = 'events' AND time > OLD.happened_at) BEGIN
    SELECT RAISE(ABORT, 'the audit log is only added to');
END;
