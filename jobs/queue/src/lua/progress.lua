#!lua
-- Records how far runs are. Late news of a run that is no longer the newest is dropped.
-- KEYS[1]  {queue}:m
-- ARGV     for each run: id, run, progress (JSON)
-- States   running
-- Returns  for each run: 1 recorded, 0 dropped
-- Cost     O(1) a run
local answers = {}
for n = 1, #ARGV, 3 do
  local id, run, progress = ARGV[n], ARGV[n + 1], ARGV[n + 2]
  local key = q .. 'j:' .. id
  local job = redis.call('HMGET', key, 'state', 'run', 'ver')
  if job[1] == 'running' and job[2] == run then
    local version = after(job[3])
    redis.call('HSET', key, 'ver', version, 'more', 1)
    redis.call('SET', q .. 'p:' .. id, run .. ' ' .. progress)
    event(id, version, 'running', run, progress)
    answers[#answers + 1] = 1
  else
    answers[#answers + 1] = 0
  end
end
commit()
return answers
