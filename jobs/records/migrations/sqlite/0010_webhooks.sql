-- Webhooks. Times are milliseconds since 1970 in UTC. Events are JSON; secrets are sealed.
CREATE TABLE webhooks (
    id               TEXT    NOT NULL PRIMARY KEY,
    version          BIGINT  NOT NULL,
    url              TEXT    NOT NULL,
    description      TEXT,
    events           TEXT    NOT NULL,
    tenant           TEXT,
    own_only         BOOLEAN NOT NULL,
    secret           TEXT    NOT NULL,
    previous_secret  TEXT,
    previous_until   BIGINT,
    disabled_at      BIGINT,
    disabled_for     TEXT,
    last_success_at  BIGINT,
    created_at       BIGINT  NOT NULL,
    created_by       TEXT    NOT NULL
);
CREATE INDEX webhooks_by_tenant ON webhooks (tenant);
CREATE INDEX webhooks_by_creator ON webhooks (created_by);

-- One row: how often webhooks were added, changed or removed.
CREATE TABLE webhook_changes (number BIGINT NOT NULL);
INSERT INTO webhook_changes (number) VALUES (0);

-- A key that opens everything opens what is new, too.
UPDATE api_keys SET version = version + 1, scopes = replace(scopes, '"tenants:admin",', '"tenants:admin","webhooks:write",')
WHERE scopes LIKE '%"tenants:admin",%' AND scopes LIKE '%"keys:admin"%' AND scopes LIKE '%"users:admin"%'
  AND scopes LIKE '%"audit:read"%' AND scopes LIKE '%"queues:admin"%';
UPDATE api_key_changes SET number = number + 1;
