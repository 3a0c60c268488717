#!lua flags=allow-oom
-- Fails jobs whose deadline has passed before a run could start, also where nobody fetches.
-- KEYS[1]  {queue}:m
-- ARGV     1 how many at most, 2 keep (ms), unless the job's kind says otherwise
-- States   blocked | scheduled | waiting | retrying | parked -> failed; a run that has started may go on
-- Returns  how many entries were looked at; call again until it is less than asked for
-- Cost     O(log n) a job; the entry of a waiting job is left in its lane (field 'left') and skipped when met
local ids = redis.call('ZRANGE', q .. 'expiry', '-inf', now, 'BYSCORE', 'LIMIT', 0, ARGV[1])
for _, id in ipairs(ids) do
  local key = q .. 'j:' .. id
  local job = redis.call('HMGET', key, 'state', 'ver', 'run', 'reason')
  local from = job[1]
  if from == 'running' then
    -- It may come back to wait: looked at again, but not before others had their turn.
    redis.call('ZADD', q .. 'expiry', now + 10000, id)
  elseif from then
    if from == 'scheduled' or from == 'retrying' then redis.call('ZREM', q .. 'later', id) end
    if from == 'parked' then redis.call('ZREM', q .. 'parked:' .. job[4], id) end
    if from == 'blocked' then unblock(id) end
    if from == 'waiting' then redis.call('HSET', key, 'left', 1) end
    expired(id, from, after(job[2]), job[3] or 0, ARGV[2])
  end
end
commit()
return #ids
