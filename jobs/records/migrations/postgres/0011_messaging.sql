-- What messages are sent to, and what became of them. Times are milliseconds since 1970 in UTC; no tenant is the empty text.

-- Devices that take push notifications.
CREATE TABLE devices (
    id          TEXT   COLLATE "C" NOT NULL PRIMARY KEY,
    tenant      TEXT   COLLATE "C" NOT NULL,
    token       TEXT   COLLATE "C" NOT NULL,
    -- 'registration' or 'installation': how FCM is to read the token.
    token_kind  TEXT   COLLATE "C" NOT NULL,
    platform    TEXT   COLLATE "C" NOT NULL,
    -- Whoever uses it, as the app calls them.
    owner       TEXT   COLLATE "C" NOT NULL,
    app_version TEXT,
    locale      TEXT,
    failures    BIGINT NOT NULL,
    created_at  BIGINT NOT NULL,
    seen_at     BIGINT NOT NULL
);
CREATE UNIQUE INDEX devices_by_token ON devices (tenant, token);
CREATE INDEX devices_by_owner ON devices (tenant, owner, id);
CREATE INDEX devices_of_tenant ON devices (tenant, id);
CREATE INDEX devices_by_seen ON devices (seen_at);

-- Addresses that get nothing any more. Channel is 'sms', 'mail' or 'push'.
CREATE TABLE suppressions (
    tenant     TEXT   COLLATE "C" NOT NULL,
    channel    TEXT   COLLATE "C" NOT NULL,
    address    TEXT   COLLATE "C" NOT NULL,
    reason     TEXT   COLLATE "C" NOT NULL,
    note       TEXT,
    created_at BIGINT NOT NULL,
    created_by TEXT,
    PRIMARY KEY (tenant, channel, address)
);

-- Text messages, each noted before it is sent: one row is one message that somebody may have to pay. Credits are thousandths.
CREATE TABLE sms_intents (
    job         TEXT   COLLATE "C" NOT NULL PRIMARY KEY,
    tenant      TEXT   COLLATE "C" NOT NULL,
    account     TEXT   COLLATE "C" NOT NULL,
    recipient   TEXT   COLLATE "C" NOT NULL,
    tag         TEXT   COLLATE "C" NOT NULL,
    state       TEXT   COLLATE "C" NOT NULL,
    provider_id TEXT,
    -- The run of the job that sends it: what an earlier one finds out counts no more.
    run         BIGINT NOT NULL,
    -- What it is taken to cost while it is not known.
    credits     BIGINT NOT NULL,
    receipt     TEXT,
    created_at  BIGINT NOT NULL,
    changed_at  BIGINT NOT NULL
);
CREATE UNIQUE INDEX sms_intents_by_tag ON sms_intents (account, tag);
CREATE INDEX sms_intents_by_provider_id ON sms_intents (account, provider_id) WHERE provider_id IS NOT NULL;
CREATE INDEX sms_intents_by_recipient ON sms_intents (tenant, recipient, created_at);
CREATE INDEX sms_intents_by_time ON sms_intents (created_at);

-- Messages to many devices, and how far they are: 'place' is what the job that sends them has noted for its next run, in JSON.
CREATE TABLE broadcasts (
    job        TEXT   COLLATE "C" NOT NULL PRIMARY KEY,
    -- The number of the run that noted it: an older one notes nothing any more.
    run        BIGINT NOT NULL,
    place      TEXT   COLLATE "C" NOT NULL,
    targeted   BIGINT NOT NULL,
    sent       BIGINT NOT NULL,
    failed     BIGINT NOT NULL,
    invalid    BIGINT NOT NULL,
    skipped    BIGINT NOT NULL,
    repeated   BIGINT NOT NULL,
    changed_at BIGINT NOT NULL
);

-- What tenants have spent with an account in a month ('2026-11'), in thousandths of what it counts in.
CREATE TABLE spending (
    tenant  TEXT   COLLATE "C" NOT NULL,
    account TEXT   COLLATE "C" NOT NULL,
    month   TEXT   COLLATE "C" NOT NULL,
    amount  BIGINT NOT NULL,
    PRIMARY KEY (tenant, account, month)
);

-- How the providers of accounts were lately, as the workers have met them. Credits are thousandths.
CREATE TABLE providers (
    account      TEXT   COLLATE "C" NOT NULL PRIMARY KEY,
    down_since   BIGINT,
    answers      BIGINT NOT NULL,
    outages      BIGINT NOT NULL,
    answered_at  BIGINT,
    failed_at    BIGINT,
    latency_ms   BIGINT,
    last_code    TEXT,
    credits      BIGINT,
    changed_at   BIGINT NOT NULL
);

-- To whom the mail of a job was handed over, so that none of them gets it again when others have to wait.
CREATE TABLE mail_recipients (
    job       TEXT   COLLATE "C" NOT NULL,
    address   TEXT   COLLATE "C" NOT NULL,
    mailed_at BIGINT NOT NULL,
    PRIMARY KEY (job, address)
);
CREATE INDEX mail_recipients_by_time ON mail_recipients (mailed_at);

-- Alerts that are open. 'sent_by' is the job that has told of it last, 'times' how often it was to be told of.
CREATE TABLE chat_alerts (
    tenant    TEXT   COLLATE "C" NOT NULL,
    account   TEXT   COLLATE "C" NOT NULL,
    key       TEXT   COLLATE "C" NOT NULL,
    opened_at BIGINT NOT NULL,
    sent_at   BIGINT NOT NULL,
    sent_by   TEXT   COLLATE "C" NOT NULL,
    times     BIGINT NOT NULL,
    PRIMARY KEY (tenant, account, key)
);
CREATE INDEX chat_alerts_by_time ON chat_alerts (sent_at);
