-- Whose a job was.
ALTER TABLE jobs ADD COLUMN tenant TEXT;
