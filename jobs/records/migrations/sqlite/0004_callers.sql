-- The API key that a job was submitted with, which its ties held before.
ALTER TABLE jobs ADD COLUMN submitted_by TEXT;
UPDATE jobs SET submitted_by = json_extract(flow, '$.submitted_by'), flow = json_remove(flow, '$.submitted_by')
WHERE json_extract(flow, '$.submitted_by') IS NOT NULL;
UPDATE jobs SET flow = NULL WHERE flow = '{}';
