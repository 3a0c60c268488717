-- How long the newest run of a job waited since it could start, in milliseconds.
ALTER TABLE jobs ADD COLUMN waited_ms BIGINT;

-- Finished jobs, added up by minute, hour and day (step, in seconds) of their end. At is where the step begins, in
-- milliseconds since 1970. No tenant is the empty text. Waits and runs are histograms: JSON.
CREATE TABLE job_stats (
    step   BIGINT NOT NULL,
    at     BIGINT NOT NULL,
    queue  TEXT   COLLATE "C" NOT NULL,
    kind   TEXT   COLLATE "C" NOT NULL,
    tenant TEXT   COLLATE "C" NOT NULL,
    state  TEXT   COLLATE "C" NOT NULL,
    jobs   BIGINT NOT NULL,
    waits  TEXT   NOT NULL,
    runs   TEXT   NOT NULL,
    PRIMARY KEY (step, at, queue, kind, tenant, state)
);

-- Minutes whose jobs have changed since they were added up: a row for each batch of changes.
CREATE TABLE job_stats_due (
    minute BIGINT NOT NULL,
    change BIGINT NOT NULL,
    PRIMARY KEY (minute, change)
);
INSERT INTO job_stats_due (minute, change) SELECT DISTINCT finished_at / 60000 * 60000, 0 FROM jobs;

-- What is older than this may be gone, by class: 'jobs', 'events', 'minutes' (of statistics).
CREATE TABLE kept_since (
    class TEXT   COLLATE "C" NOT NULL PRIMARY KEY,
    time  BIGINT NOT NULL
);

-- Events that are older than the log goes back may be deleted.
DROP TRIGGER audit_stays ON audit_events;
CREATE TRIGGER audit_stays BEFORE UPDATE OR TRUNCATE ON audit_events
FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();
CREATE FUNCTION audit_refuse_unless_old() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM kept_since WHERE class = 'events' AND time > OLD.happened_at) THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'the audit log is only added to';
END
$$;
CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit_events
FOR EACH ROW EXECUTE FUNCTION audit_refuse_unless_old();
