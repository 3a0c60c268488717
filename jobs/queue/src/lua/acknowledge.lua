#!lua flags=allow-oom
-- Removes entries from the outbox: their consumer has stored them.
-- KEYS[1]  {queue}:m
-- ARGV     1 group, then ids of entries
-- Returns  how many were still there
-- Cost     O(1) an entry
redis.call('XACK', q .. 'out', unpack(ARGV))
return redis.call('XDEL', q .. 'out', unpack(ARGV, 2))
