#!lua
-- Notes a job that a run is about to make.
-- KEYS[1]  {queue}:m
-- ARGV     1 id, 2 run, 3 full id of the new job
-- States   running
-- Returns  its tenant ('': none); nil if it is refused (the run is somebody else's or over)
-- Cost     O(1)
local key, made = q .. 'j:' .. ARGV[1], q .. 'next:' .. ARGV[1]
local job = redis.call('HMGET', key, 'state', 'run', 'grp')
if job[1] ~= 'running' or job[2] ~= ARGV[2] then return false end
redis.call('HSET', key, 'ties', 1, 'more', 1)
if redis.call('SCARD', made) < 1000 then redis.call('SADD', made, ARGV[3]) end
return job[3] or ''
