-- A key that opens everything opens the figures of the platform, too.
UPDATE api_keys SET version = version + 1, scopes = replace(scopes, '"queues:admin",', '"queues:admin","metrics:read",')
WHERE scopes LIKE '%"queues:admin",%' AND scopes LIKE '%"keys:admin"%' AND scopes LIKE '%"users:admin"%'
  AND scopes LIKE '%"audit:read"%' AND scopes LIKE '%"tenants:admin"%';
UPDATE api_key_changes SET number = number + 1;
