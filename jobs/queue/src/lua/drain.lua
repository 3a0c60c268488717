#!lua
-- Tells a worker process to end once its runs have: by a message, and by its next beat should it miss that.
-- KEYS[1]  {queue}:m
-- ARGV     1 worker
-- Returns  1 if the process is known, else 0
-- Cost     O(log n)
local worker = ARGV[1]
if not redis.call('ZSCORE', q .. 'workers', worker) then return 0 end
redis.call('SADD', q .. 'draining', worker)
redis.call('PUBLISH', q .. 'ctl', 'drain ' .. worker)
return 1
