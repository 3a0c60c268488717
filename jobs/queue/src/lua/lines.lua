#!lua flags=no-writes
-- Reads a part of a job's log.
-- KEYS[1]  {queue}:m
-- ARGV     1 id, 2 after which line, 3 how many at most
-- Returns  the number of the newest line (-1: there is no such job), then the lines as log.lua has written them
-- Cost     O(1) a line
local key, log = q .. 'j:' .. ARGV[1], q .. 'log:' .. ARGV[1]
if redis.call('EXISTS', key) == 0 then return { -1 } end
local newest = tonumber(redis.call('HGET', key, 'log') or 0)
local length = redis.call('LLEN', log)
-- The list ends with the newest line, so that a line's number tells its place.
local start = math.min(math.max(ARGV[2] - newest + length, 0), length)
local answer = redis.call('LRANGE', log, start, start + ARGV[3] - 1)
table.insert(answer, 1, newest)
return answer
