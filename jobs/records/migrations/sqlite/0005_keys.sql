-- API keys, of whose secrets only SHA-256 hashes are known (hexadecimal). Times are milliseconds since 1970 in UTC; scopes
-- are JSON.
CREATE TABLE api_keys (
    id              TEXT    NOT NULL PRIMARY KEY,
    version         BIGINT  NOT NULL,
    name            TEXT    NOT NULL,
    prefix          TEXT    NOT NULL,
    sha256          TEXT    NOT NULL UNIQUE,
    previous_sha256 TEXT,
    previous_until  BIGINT,
    tenant          TEXT,
    scopes          TEXT    NOT NULL,
    device          BOOLEAN NOT NULL,
    created_at      BIGINT  NOT NULL,
    created_by      TEXT,
    expires_at      BIGINT,
    revoked_at      BIGINT,
    last_used_at    BIGINT,
    rate_limit      TEXT
);

-- One row: how often keys were added or changed.
CREATE TABLE api_key_changes (number BIGINT NOT NULL);
INSERT INTO api_key_changes (number) VALUES (0);
