#!lua flags=no-writes
-- Reads how things stand with runs, for whoever may not be the one that they were handed to.
-- KEYS[1]  {queue}:m
-- ARGV     for each: id of the job, what is wanted beside: 'b' its envelope, 'p' its progress, or ''
-- Returns  for each: state (nil: there is no such job), run, tenant, attempts, crashes, whether a caller asked to stop it,
--          how long to keep it after a success or cancellation and after a failure, for how long the run has gone on (ms),
--          and what is wanted beside
-- Cost     O(1) a run
local answers = {}
for n = 1, #ARGV, 2 do
  local id, wanted = ARGV[n], ARGV[n + 1]
  local job = redis.call('HMGET', q .. 'j:' .. id, 'state', 'run', 'grp', 'att', 'crash', 'cancel', 'keep:done',
    'keep:failed', 'start')
  job[9] = job[9] and text(math.max(0, now - job[9]))
  job[10] = wanted ~= '' and redis.call('GET', q .. wanted .. ':' .. id)
  answers[#answers + 1] = job
end
return answers
