-- How long a job has to tell of an alert: until this time no other job of the key does. 0 when somebody was told, or the job
-- has taken it back; 1 in rows of an earlier version, of which that is not known. 'sent_at' is when somebody was told last, 0 if
-- nobody was; 'sent_by' is the job that tells, or has. An alert that was resolved before its job could tell of it stays, with
-- 'times' of 0, so that this job does so no more.
ALTER TABLE chat_alerts ADD COLUMN claimed_until BIGINT NOT NULL DEFAULT 1;
