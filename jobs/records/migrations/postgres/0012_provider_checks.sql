-- What the last check of a provider has found, and when a worker has last begun one: of all workers one checks at a time.
ALTER TABLE providers ADD COLUMN check_begun_at BIGINT;
ALTER TABLE providers ADD COLUMN checked_at BIGINT;
ALTER TABLE providers ADD COLUMN check_status TEXT;
ALTER TABLE providers ADD COLUMN check_message TEXT;
ALTER TABLE providers ADD COLUMN check_ms BIGINT;
