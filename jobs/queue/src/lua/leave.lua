#!lua flags=allow-oom
-- Forgets a worker process that ends.
-- KEYS[1]  {queue}:m
-- ARGV     1 worker
-- Returns  1 if it was known, else 0
-- Cost     O(log n)
local worker = ARGV[1]
redis.call('SREM', q .. 'draining', worker)
redis.call('DEL', q .. 'wk:' .. worker)
return redis.call('ZREM', q .. 'workers', worker)
