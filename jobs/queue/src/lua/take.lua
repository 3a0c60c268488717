#!lua flags=allow-oom
-- Hands entries of the outbox to a consumer: first those that another has taken and not acknowledged in time.
-- The first call opens the outbox, as does the first one after Redis has lost everything.
-- KEYS[1]  {queue}:m
-- ARGV     1 group, 2 how many at most, 3 time to acknowledge (ms), 4 how many the outbox may hold
-- Returns  how many entries were dropped so far because the outbox was full; then for each entry: its id, its fields
-- Cost     O(1) an entry
local out, group, want = q .. 'out', ARGV[1], tonumber(ARGV[2])
if redis.call('HGET', meta, 'out') ~= ARGV[4] then redis.call('HSET', meta, 'out', ARGV[4]) end
local function claim(call) return call('XAUTOCLAIM', out, group, group, ARGV[3], '0-0', 'COUNT', want) end
local claimed = claim(redis.pcall)
if claimed.err then
  redis.call('XGROUP', 'CREATE', out, group, '0', 'MKSTREAM')
  claimed = claim(redis.call)
end
local answer = { redis.call('HGET', meta, 'out:dropped') or '0' }
for _, entry in ipairs(claimed[2]) do answer[#answer + 1] = entry end
if #answer <= want then
  local new = redis.call('XREADGROUP', 'GROUP', group, group, 'COUNT', want + 1 - #answer, 'STREAMS', out, '>')
  for _, entry in ipairs(new and new[1][2] or {}) do answer[#answer + 1] = entry end
end
return answer
