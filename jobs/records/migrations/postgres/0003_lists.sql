-- Lists of finished jobs, newest first, each by an index of its own. The plain one also answers when a job was created.
CREATE INDEX jobs_newest ON jobs (finished_at, id, created_at);
CREATE INDEX jobs_by_state ON jobs (state, finished_at, id);
CREATE INDEX jobs_by_kind ON jobs (kind, finished_at, id);
CREATE INDEX jobs_by_error ON jobs (error_code, finished_at, id) WHERE error_code IS NOT NULL;
CREATE INDEX jobs_by_tenant ON jobs (tenant, finished_at, id) WHERE tenant IS NOT NULL;
CREATE INDEX jobs_by_key ON jobs (submitted_by, finished_at, id) WHERE submitted_by IS NOT NULL;

-- The tags of jobs, once more than in their rows. The time is that of the job's row.
CREATE TABLE job_tags (
    id          TEXT   COLLATE "C" NOT NULL,
    tag         TEXT   COLLATE "C" NOT NULL,
    finished_at BIGINT NOT NULL,
    PRIMARY KEY (id, tag)
);
CREATE INDEX jobs_by_tag ON job_tags (tag, finished_at, id);
INSERT INTO job_tags (id, tag, finished_at)
SELECT DISTINCT jobs.id, tag, jobs.finished_at FROM jobs, jsonb_array_elements_text(jobs.tags::jsonb) AS tag;

-- Jobs that were deleted, for as long as one of them might come again from an outbox.
CREATE TABLE deleted_jobs (
    id         TEXT   COLLATE "C" NOT NULL PRIMARY KEY,
    deleted_at BIGINT NOT NULL
);
CREATE INDEX deleted_jobs_by_time ON deleted_jobs (deleted_at);
