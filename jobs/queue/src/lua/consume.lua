#!lua flags=allow-oom
-- Opens the outbox for a consumer: from now on the jobs that end are put into it.
-- KEYS[1]  {queue}:m
-- ARGV     1 group, 2 how many entries the outbox holds at most
-- Returns  1
-- Cost     O(1)
redis.call('HSET', meta, 'out', ARGV[2])
redis.pcall('XGROUP', 'CREATE', q .. 'out', ARGV[1], '0', 'MKSTREAM') -- It may be there.
return 1
