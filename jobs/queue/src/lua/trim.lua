#!lua flags=allow-oom
-- Forgets finished jobs: those whose time is over, then the oldest above a number.
-- KEYS[1]  {queue}:m
-- ARGV     1 how many at most, 2 how many to keep in 'done', 3 how many to keep in 'dead'
-- States   succeeded | failed | cancelled -> none
-- Returns  how many entries were looked at; call again until it is less than asked for
-- Cost     O(log n) a job
local left = tonumber(ARGV[1])
for index, most in pairs({ done = tonumber(ARGV[2]), dead = tonumber(ARGV[3]) }) do
  local name = q .. index
  local ids = redis.call('ZRANGE', name, '-inf', now, 'BYSCORE', 'LIMIT', 0, left)
  local excess = redis.call('ZCARD', name) - #ids - most
  if excess > 0 and #ids < left then
    -- What has run out stands at the front of the index, so the excess follows it.
    for _, id in ipairs(redis.call('ZRANGE', name, #ids, #ids + math.min(excess, left - #ids) - 1)) do
      ids[#ids + 1] = id
    end
  end
  for _, id in ipairs(ids) do
    local job = redis.call('HMGET', q .. 'j:' .. id, 'state', 'more', 'ties')
    if job[1] == 'succeeded' or job[1] == 'failed' or job[1] == 'cancelled' then
      forget(id, job[1], job[2], job[3])
    end
  end
  if #ids > 0 then redis.call('ZREM', name, unpack(ids)) end
  left = left - #ids
end
commit()
return tonumber(ARGV[1]) - left
