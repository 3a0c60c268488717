#!lua flags=allow-oom
-- Forgets failed jobs before their time.
-- KEYS[1]  {queue}:m
-- ARGV     for each job: id, the version that it must have ('': any)
-- States   failed -> none; others are passed over
-- Returns  for each job: the state before, '' if there is no such job; and whether it is forgotten now (1 or 0)
-- Cost     O(log n) a job
local answers, gone = {}, {}
for n = 1, #ARGV, 2 do
  local id, version = ARGV[n], ARGV[n + 1]
  local job = redis.call('HMGET', q .. 'j:' .. id, 'state', 'ver', 'more', 'ties')
  local matches = job[1] == 'failed' and (version == '' or version == (job[2] or '1'))
  if matches then
    forget(id, 'failed', job[3], job[4])
    gone[#gone + 1] = id
  end
  answers[#answers + 1] = job[1] or ''
  answers[#answers + 1] = matches and 1 or 0
end
if #gone > 0 then redis.call('ZREM', q .. 'dead', unpack(gone)) end
commit()
return answers
