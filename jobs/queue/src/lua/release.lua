#!lua flags=allow-oom
-- Gives runs back that did not do their work for a reason that is not the job's: the run does not count as an attempt.
-- KEYS[1]  {queue}:m
-- ARGV     1 keep (ms), if a caller asked to stop it and its kind says nothing else; then for each run: id, run,
--          delay (ms; 0: front of its lane now), error (why, for who looks while the job waits), or ''
-- States   running -> waiting | scheduled | cancelled. A suspect stays one: it has not run to an end alone.
-- Returns  for each run: 1 given back, 0 refused (it is somebody else's or over)
-- Cost     O(log n) a run
local answers, released = {}, {}
for n = 2, #ARGV, 4 do
  local id, run, delay = ARGV[n], ARGV[n + 1], tonumber(ARGV[n + 2])
  local key = q .. 'j:' .. id
  local job = redis.call('HMGET', key, 'state', 'run', 'ver', 'att', 'prio', 'cancel', 'alone', 'deadline', 'ties')
  if job[1] ~= 'running' or job[2] ~= run then
    answers[#answers + 1] = 0
  else
    local version = after(job[3])
    local ties = job[9] and ties_of(id)
    if ties and ties[1] then
      unhold(id, ties[1])
      redis.call('HDEL', key, 'lim')
    end
    local to = job[6] and 'cancelled' or (delay > 0 and 'scheduled' or 'waiting')
    redis.call('HSET', key, 'state', to, 'ver', version, 'att', job[4] - 1)
    if to == 'cancelled' then
      redis.call('HSET', key, 'end', at)
      ended(id, to, kept(id, to, ARGV[1]), job[8], ties)
    elseif to == 'scheduled' then
      redis.call('HSET', key, 'due', now + delay)
      redis.call('ZADD', q .. 'later', now + delay, id)
      awake = true
    else
      redis.call('HSET', key, 'due', at)
      enlane(id, job[5], job[7], true)
    end
    if ARGV[n + 3] ~= '' then
      redis.call('SET', q .. 'r:' .. id, ARGV[n + 3])
      redis.call('HSET', key, 'more', 1)
    end
    released[#released + 1] = id
    moved('running', to)
    event(id, version, to, run)
    answers[#answers + 1] = 1
  end
end
if #released > 0 then redis.call('ZREM', q .. 'lease', unpack(released)) end
commit()
return answers
