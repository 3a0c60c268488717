#!lua flags=allow-oom
-- Looks at jobs that wait for others, so that what a crash has left untied is tied: each ten seconds after it was
-- accepted, every ten seconds of its first minute, and every minute from then on.
-- KEYS[1]  {queue}:m
-- ARGV     1 how many of those that they wait for at most, to within a thousand
-- States   blocked
-- Returns  for each job: id, list of full ids that it waits for
-- Cost     O(log n) a job, O(1) for each that it waits for
local answers, left = {}, tonumber(ARGV[1])
for _, id in ipairs(redis.call('ZRANGE', q .. 'blocked', '-inf', now, 'BYSCORE', 'LIMIT', 0, 100)) do
  if left < 1 then break end
  local key = q .. 'j:' .. id
  local job = redis.call('HMGET', key, 'state', 'at', 'scan')
  if job[1] ~= 'blocked' then
    redis.call('ZREM', q .. 'blocked', id)
  else
    -- The thousands of a batch take several turns.
    local scanned = redis.call('SSCAN', q .. 'dep:' .. id, job[3] or '0', 'COUNT', 1000)
    local wait = now - job[2] < 60000 and 10000 or 60000
    if scanned[1] ~= '0' then
      redis.call('HSET', key, 'scan', scanned[1])
      wait = 0
    elseif job[3] then
      redis.call('HDEL', key, 'scan')
    end
    redis.call('ZADD', q .. 'blocked', now + wait, id)
    answers[#answers + 1] = id
    answers[#answers + 1] = scanned[2]
    left = left - #scanned[2]
  end
end
return answers
