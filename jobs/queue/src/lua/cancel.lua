#!lua flags=allow-oom
-- Stops jobs: at once those that no worker has, else by asking the worker.
-- KEYS[1]  {queue}:m
-- ARGV     1 keep (ms), unless its kind says otherwise; then for each job: id, the version that it must have ('': any)
-- States   blocked | scheduled | waiting | retrying | parked -> cancelled; running stays until its worker settles it
-- Returns  for each job: the state before, '' if there is no such job; and whether it was stopped or asked to (1 or 0)
-- Cost     O(log n) a job; the entry of a waiting job is left in its lane (field 'left') and skipped when met
local keep, answers = ARGV[1], {}

local function cancel(id, key, job)
  local from, version, run = job[1], after(job[2]), job[3] or 0
  if from == 'running' then
    redis.call('HSET', key, 'cancel', 1, 'ver', version)
    event(id, version, from, run)
    redis.call('PUBLISH', q .. 'ctl', 'cancel ' .. id .. ' ' .. run)
    return
  end
  if from == 'scheduled' or from == 'retrying' then redis.call('ZREM', q .. 'later', id) end
  if from == 'parked' then redis.call('ZREM', q .. 'parked:' .. job[4], id) end
  -- The handle of a batch keeps the names of its open members: they are to be cancelled too.
  if from == 'blocked' then
    if job[7] then redis.call('ZREM', q .. 'blocked', id) else unblock(id) end
  end
  if from == 'waiting' then redis.call('HSET', key, 'left', 1) end
  redis.call('HSET', key, 'state', 'cancelled', 'ver', version, 'end', at)
  ended(id, 'cancelled', kept(id, 'cancelled', keep), job[5], job[6])
  moved(from, 'cancelled')
  event(id, version, 'cancelled', run)
end

for n = 2, #ARGV, 2 do
  local id, expected, key = ARGV[n], ARGV[n + 1], q .. 'j:' .. ARGV[n]
  local job = redis.call('HMGET', key, 'state', 'ver', 'run', 'reason', 'deadline', 'ties', 'virtual')
  local can = job[1] and not is_final(job[1]) and (expected == '' or expected == (job[2] or '1'))
  if can then cancel(id, key, job) end
  answers[#answers + 1] = job[1] or ''
  answers[#answers + 1] = can and 1 or 0
end
commit()
return answers
