-- Kinds of jobs that workers of other systems have registered. Those of no tenant have the tenant ''. Schemas and policies
-- are JSON. Times are milliseconds since 1970 in UTC.
CREATE TABLE kinds (
    tenant          TEXT    COLLATE "C" NOT NULL,
    name            TEXT    COLLATE "C" NOT NULL,
    version         BIGINT  NOT NULL,
    schema_version  BIGINT  NOT NULL,
    summary         TEXT    NOT NULL,
    payload_schema  TEXT    NOT NULL,
    result_schema   TEXT    NOT NULL,
    policy          TEXT    NOT NULL,
    changed_at      BIGINT  NOT NULL,
    changed_by      TEXT    NOT NULL,
    PRIMARY KEY (tenant, name)
);

-- One row: how often kinds were registered, changed or removed.
CREATE TABLE kind_changes (number BIGINT NOT NULL);
INSERT INTO kind_changes (number) VALUES (0);

-- A key that opens everything opens what is new, too.
UPDATE api_keys SET version = version + 1, scopes = replace(scopes, '"jobs:control"', '"jobs:control","jobs:work"')
WHERE scopes LIKE '%"jobs:submit"%' AND scopes LIKE '%"jobs:read"%' AND scopes LIKE '%"jobs:control"%'
  AND scopes LIKE '%"files:write"%' AND scopes LIKE '%"files:read"%' AND scopes LIKE '%"queues:read"%'
  AND scopes LIKE '%"queues:admin"%' AND scopes LIKE '%"keys:admin"%' AND scopes LIKE '%"users:admin"%'
  AND scopes LIKE '%"audit:read"%' AND scopes LIKE '%"tenants:admin"%' AND scopes LIKE '%"public:read"%';
UPDATE api_key_changes SET number = number + 1;
