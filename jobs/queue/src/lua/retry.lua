#!lua
-- Lets jobs run now: those that are over again from the start, those that wait for a time or a cause without waiting.
-- KEYS[1]  {queue}:m
-- ARGV     1 the only state from which to do so ('': any of those below); then for each job: id, the version that it
--          must have ('': any)
-- States   failed | cancelled | scheduled | retrying | parked -> waiting; not if the job is unique and there is another
-- Returns  for each job: the state before, '' if there is no such job; and whether it waits now because of this (1 or 0)
-- Cost     O(log n) a job

-- Whether the job may run now because it has left the index of its state.
local function leave(id, key, from, reason)
  if redis.call('HEXISTS', key, 'virtual') == 1 then return false end -- A batch ends with its members.
  if from == 'failed' or from == 'cancelled' then
    local unique = redis.call('HGET', key, 'uniq')
    if unique and not redis.call('SET', q .. 'u:' .. string.sub(unique, 2), string.sub(unique, 1, 1) .. id, 'NX') then
      return false -- There is another of its like by now.
    end
    redis.call('ZREM', q .. (from == 'failed' and 'dead' or 'done'), id)
    redis.call('HSET', key, 'att', 0, 'crash', 0)
    redis.call('HDEL', key, 'cancel', 'end', 'deadline', 'left', 'lim')
    redis.call('DEL', q .. 'r:' .. id)
  elseif from == 'scheduled' or from == 'retrying' then
    redis.call('ZREM', q .. 'later', id)
  elseif from == 'parked' then
    redis.call('ZREM', q .. 'parked:' .. reason, id)
  else
    return false
  end
  return true
end

local only, answers = ARGV[1], {}
for n = 2, #ARGV, 2 do
  local id, expected, key = ARGV[n], ARGV[n + 1], q .. 'j:' .. ARGV[n]
  local job = redis.call('HMGET', key, 'state', 'ver', 'run', 'prio', 'reason', 'alone', 'left')
  local from = job[1]
  local wanted = from and (only == '' or only == from) and (expected == '' or expected == (job[2] or '1'))
  local moves = wanted and leave(id, key, from, job[5])
  if moves then
    local version = after(job[2])
    redis.call('HSET', key, 'state', 'waiting', 'ver', version, 'due', at)
    -- A job that was ended in its lane has its old place again: a second entry would stay there for ever.
    if not job[7] then enlane(id, job[4], job[6]) end
    awake = true
    moved(from, 'waiting')
    event(id, version, 'waiting', job[3] or 0)
  end
  answers[#answers + 1] = from or ''
  answers[#answers + 1] = moves and 1 or 0
end
commit()
return answers
