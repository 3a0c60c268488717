-- How a job is tied to others: the jobs that it waited for, the one that made it, its batch. JSON; NULL if it stands alone.
ALTER TABLE jobs ADD COLUMN flow TEXT;
