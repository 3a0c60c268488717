-- Tenants. Times are milliseconds since 1970 in UTC.
CREATE TABLE tenants (
    name          TEXT    NOT NULL PRIMARY KEY,
    version       BIGINT  NOT NULL,
    title         TEXT,
    registration  BOOLEAN NOT NULL,
    app_url       TEXT,
    created_at    BIGINT  NOT NULL,
    created_by    TEXT,
    suspended_at  BIGINT
);

-- Names that differ in nothing but upper and lower case look alike: only one of them is given.
CREATE INDEX tenants_by_look ON tenants (lower(name));

-- One row: how often tenants were added, changed or removed.
CREATE TABLE tenant_changes (number BIGINT NOT NULL);
INSERT INTO tenant_changes (number) VALUES (0);

-- The tenants of keys were nothing but names before. Some may look alike.
INSERT INTO tenants (name, version, registration, created_at)
SELECT tenant, 1, false, min(created_at) FROM api_keys WHERE tenant IS NOT NULL GROUP BY tenant;

-- A key that opens everything opens what is new, too.
UPDATE api_keys SET version = version + 1, scopes =
  '["jobs:submit","jobs:read","jobs:control","files:write","files:read","queues:read","queues:admin","keys:admin",' ||
  '"users:admin","audit:read","tenants:admin","public:read"]'
WHERE scopes =
  '["jobs:submit","jobs:read","jobs:control","files:write","files:read","queues:read","queues:admin","keys:admin",' ||
  '"public:read"]';
UPDATE api_key_changes SET number = number + 1;

-- Events that concern security. Details are JSON.
CREATE TABLE audit_events (
    id            TEXT    NOT NULL PRIMARY KEY,
    happened_at   BIGINT  NOT NULL,
    actor         TEXT,
    tenant        TEXT,
    action        TEXT    NOT NULL,
    target        TEXT,
    outcome       TEXT    NOT NULL,
    address       TEXT,
    user_agent    TEXT,
    request_id    TEXT,
    details       TEXT    NOT NULL
) WITHOUT ROWID;

-- Newest first, each list by an index of its own.
CREATE INDEX audit_newest ON audit_events (happened_at, id);
CREATE INDEX audit_by_tenant ON audit_events (tenant, happened_at, id) WHERE tenant IS NOT NULL;
CREATE INDEX audit_by_actor ON audit_events (actor, happened_at, id) WHERE actor IS NOT NULL;
CREATE INDEX audit_by_target ON audit_events (target, happened_at, id) WHERE target IS NOT NULL;
CREATE INDEX audit_by_action ON audit_events (action, happened_at, id);

-- Nobody changes what has happened.
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit_events BEGIN
    SELECT RAISE(ABORT, 'the audit log is only added to');
END;
CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit_events BEGIN
    SELECT RAISE(ABORT, 'the audit log is only added to');
END;

-- INSERT OR REPLACE deletes without asking the trigger above. An event that is there already is left as it is.
CREATE TRIGGER audit_is_not_replaced BEFORE INSERT ON audit_events
WHEN EXISTS (SELECT 1 FROM audit_events WHERE id = NEW.id) BEGIN
    SELECT RAISE(IGNORE);
END;
