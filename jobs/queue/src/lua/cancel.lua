#!lua flags=allow-oom
-- Stops a job: at once if no worker has it, else by asking the worker.
-- KEYS[1]  {queue}:m
-- ARGV     1 id, 2 keep (ms), unless its kind says otherwise
-- States   blocked | scheduled | waiting | retrying | parked -> cancelled; running stays until its worker settles it
-- Returns  the state before, or '' if there is no such job
-- Cost     O(log n); the entry of a waiting job is left in its lane (field 'left') and skipped when met
local id, key = ARGV[1], q .. 'j:' .. ARGV[1]
local job = redis.call('HMGET', key, 'state', 'ver', 'run', 'reason', 'deadline', 'ties', 'virtual')
local from = job[1]
if not from then return '' end
if from == 'succeeded' or from == 'failed' or from == 'cancelled' then return from end
local version, run = after(job[2]), job[3] or 0
if from == 'running' then
  redis.call('HSET', key, 'cancel', 1, 'ver', version)
  event(id, version, from, run)
  redis.call('PUBLISH', q .. 'ctl', 'cancel ' .. id .. ' ' .. run)
else
  if from == 'scheduled' or from == 'retrying' then redis.call('ZREM', q .. 'later', id) end
  if from == 'parked' then redis.call('ZREM', q .. 'parked:' .. job[4], id) end
  -- The handle of a batch keeps the names of its open members: they are to be cancelled too.
  if from == 'blocked' then
    if job[7] then redis.call('ZREM', q .. 'blocked', id) else unblock(id) end
  end
  if from == 'waiting' then redis.call('HSET', key, 'left', 1) end
  redis.call('HSET', key, 'state', 'cancelled', 'ver', version, 'end', at)
  ended(id, 'cancelled', kept(id, 'cancelled', ARGV[2]), job[5], job[6])
  moved(from, 'cancelled')
  event(id, version, 'cancelled', run)
end
commit()
return from
