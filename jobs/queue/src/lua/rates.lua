#!lua flags=allow-oom
-- Takes tokens from a bucket, which fills up again by itself.
-- KEYS[1]  {fourmi:door}:m, which is not there: the buckets lie beside it
-- ARGV     name, quota, window (ms), tokens that must be there, tokens that are taken if they are there too
-- Returns  tokens taken, tokens left, ms until there is one, ms until it is full
-- Cost     O(1). A bucket that nobody asks for goes away when it is full again
local bucket = q .. 'r:' .. ARGV[1]
local quota, window = tonumber(ARGV[2]), tonumber(ARGV[3])
local least, most = tonumber(ARGV[4]), tonumber(ARGV[5])
local found = redis.call('HMGET', bucket, 'left', 'at')
-- A clock that was put back takes nothing away.
local passed = math.max(0, now - (tonumber(found[2]) or now))
local left = math.min(quota, (tonumber(found[1]) or quota) + passed * quota / window)

local taken = 0
if left >= least then
  taken = math.min(most, math.floor(left))
  left = left - taken
end
local full = math.ceil((quota - left) * window / quota)
redis.call('HSET', bucket, 'left', string.format('%.6f', left), 'at', at)
redis.call('PEXPIRE', bucket, text(full + 1000))

local next = left >= 1 and 0 or math.ceil((1 - left) * window / quota)
return { taken, math.floor(left), next, full }
