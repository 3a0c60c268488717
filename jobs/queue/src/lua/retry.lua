#!lua
-- Lets a job run now: one that is over again from the start, one that waits for a time or a cause without waiting.
-- KEYS[1]  {queue}:m
-- ARGV[1]  id
-- States   failed | cancelled | scheduled | retrying | parked -> waiting
-- Returns  the state before, or '' if there is no such job
-- Cost     O(log n)
local id, key = ARGV[1], q .. 'j:' .. ARGV[1]
local job = redis.call('HMGET', key, 'state', 'ver', 'run', 'prio', 'reason', 'alone', 'left')
local from = job[1]
if not from then return '' end
if from == 'failed' or from == 'cancelled' then
  redis.call('ZREM', q .. (from == 'failed' and 'dead' or 'done'), id)
  redis.call('HSET', key, 'att', 0, 'crash', 0)
  redis.call('HDEL', key, 'cancel', 'end', 'deadline', 'left')
  redis.call('DEL', q .. 'r:' .. id)
elseif from == 'scheduled' or from == 'retrying' then
  redis.call('ZREM', q .. 'later', id)
elseif from == 'parked' then
  redis.call('ZREM', q .. 'parked:' .. job[5], id)
else
  return from
end
local version = after(job[2])
redis.call('HSET', key, 'state', 'waiting', 'ver', version)
-- A job that was ended in its lane has its old place again: a second entry would stay there for ever.
if not job[7] then enlane(id, job[4], job[6]) end
awake = true
moved(from, 'waiting')
event(id, version, 'waiting', job[3] or 0)
commit()
return from
