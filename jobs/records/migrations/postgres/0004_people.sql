-- People. Times are milliseconds since 1970 in UTC; recovery_hashes and profile are JSON. The keys are the username and the
-- e-mail address in lower case; search is what a person is found by, in lower case too.
CREATE TABLE users (
    id                  TEXT    COLLATE "C" NOT NULL PRIMARY KEY,
    version             BIGINT  NOT NULL,
    tenant              TEXT    COLLATE "C",
    role                TEXT    COLLATE "C" NOT NULL,
    username            TEXT,
    username_key        TEXT    COLLATE "C" UNIQUE,
    email               TEXT,
    email_key           TEXT    COLLATE "C" UNIQUE,
    email_confirmed_at  BIGINT,
    password_hash       TEXT,
    password_changed_at BIGINT,
    totp_secret         TEXT,
    totp_confirmed_at   BIGINT,
    totp_last_step      BIGINT,
    recovery_hashes     TEXT    NOT NULL,
    access_version      BIGINT  NOT NULL,
    deactivated_at      BIGINT,
    profile             TEXT    NOT NULL,
    search              TEXT    COLLATE "C" NOT NULL,
    created_at          BIGINT  NOT NULL,
    created_by          TEXT,
    last_login_at       BIGINT
);

-- Lists of people, newest first.
CREATE INDEX users_newest ON users (created_at, id);
CREATE INDEX users_by_role ON users (role, created_at, id);
CREATE INDEX users_by_tenant ON users (tenant, created_at, id) WHERE tenant IS NOT NULL;
CREATE INDEX users_by_tenant_and_role ON users (tenant, role, created_at, id) WHERE tenant IS NOT NULL;

-- Where people are logged in.
CREATE TABLE sessions (
    id           TEXT    COLLATE "C" NOT NULL PRIMARY KEY,
    user_id      TEXT    COLLATE "C" NOT NULL,
    device       TEXT,
    user_agent   TEXT,
    address      TEXT    COLLATE "C" NOT NULL,
    created_at   BIGINT  NOT NULL,
    refreshed_at BIGINT  NOT NULL,
    expires_at   BIGINT  NOT NULL,
    ends_at      BIGINT  NOT NULL,
    revoked_at   BIGINT,
    revoked_for  TEXT
);
CREATE INDEX sessions_by_user ON sessions (user_id, refreshed_at, id);
CREATE INDEX sessions_by_end ON sessions (expires_at);
CREATE INDEX sessions_by_revocation ON sessions (revoked_at) WHERE revoked_at IS NOT NULL;

-- Tokens that renew a session, of which only SHA-256 hashes are known (hexadecimal). Those that were replaced stay for as
-- long as their session, so that one who shows a stolen one is found out.
CREATE TABLE refresh_tokens (
    sha256      TEXT    COLLATE "C" NOT NULL PRIMARY KEY,
    session_id  TEXT    COLLATE "C" NOT NULL,
    issued_at   BIGINT  NOT NULL,
    replaced_at BIGINT
);
CREATE INDEX refresh_tokens_by_session ON refresh_tokens (session_id);

-- Tokens of links in mails, of which only ids are known. Job is the one that sends the mail.
CREATE TABLE one_time_tokens (
    id         TEXT    COLLATE "C" NOT NULL PRIMARY KEY,
    user_id    TEXT    COLLATE "C" NOT NULL,
    purpose    TEXT    COLLATE "C" NOT NULL,
    email      TEXT,
    job        TEXT,
    created_at BIGINT  NOT NULL,
    expires_at BIGINT  NOT NULL,
    used_at    BIGINT
);
CREATE INDEX one_time_tokens_by_user ON one_time_tokens (user_id, purpose);
CREATE INDEX one_time_tokens_by_end ON one_time_tokens (expires_at);

-- Failed tries of logging in, one row for each account, address or whatever else is counted.
CREATE TABLE attempts (
    subject  TEXT    COLLATE "C" NOT NULL PRIMARY KEY,
    failures BIGINT  NOT NULL,
    last_at  BIGINT  NOT NULL,
    until    BIGINT
);
CREATE INDEX attempts_by_time ON attempts (last_at);

-- Generations of the keys that sign access tokens. The keys themselves are not here.
CREATE TABLE token_keys (
    number     BIGINT  NOT NULL PRIMARY KEY,
    made_at    BIGINT  NOT NULL,
    revoked_at BIGINT
);

-- From which version on the access tokens of a person are valid, for as long as older ones may be about.
CREATE TABLE access_changes (
    user_id        TEXT    COLLATE "C" NOT NULL PRIMARY KEY,
    access_version BIGINT  NOT NULL,
    changed_at     BIGINT  NOT NULL
);
CREATE INDEX access_changes_by_time ON access_changes (changed_at);

-- One row: how often it changed which access tokens are valid.
CREATE TABLE people_changes (number BIGINT NOT NULL);
INSERT INTO people_changes (number) VALUES (0);

-- People who are gone, and whose jobs and files are to be erased.
CREATE TABLE erasures (
    id       TEXT   COLLATE "C" NOT NULL PRIMARY KEY,
    asked_at BIGINT NOT NULL
);
