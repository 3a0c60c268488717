#!lua flags=allow-oom
-- Removes entries from an outbox: its consumer is done with them.
-- KEYS[1]  {queue}:m
-- ARGV     1 outbox ('out', 'hooks', 'wire'), then ids of entries
-- Returns  how many were still there
-- Cost     O(1) an entry
local outbox = q .. ARGV[1]
redis.call('XACK', outbox, 'history', unpack(ARGV, 2))
return redis.call('XDEL', outbox, unpack(ARGV, 2))
