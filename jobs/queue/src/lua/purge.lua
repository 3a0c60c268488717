#!lua flags=allow-oom
-- Forgets jobs that are over before their time.
-- KEYS[1]  {queue}:m
-- ARGV     for each job: id, the version that it must have ('': any)
-- States   succeeded | failed | cancelled -> none; others are passed over
-- Returns  for each job: the state before, '' if there is no such job; and whether it is forgotten now (1 or 0)
-- Cost     O(log n) a job
local answers, gone = {}, { done = {}, dead = {} }
for n = 1, #ARGV, 2 do
  local id, version = ARGV[n], ARGV[n + 1]
  local job = redis.call('HMGET', q .. 'j:' .. id, 'state', 'ver', 'more', 'ties')
  local state = job[1]
  local goes = state and is_final(state) and (version == '' or version == (job[2] or '1'))
  if goes then
    forget(id, state, job[3], job[4])
    local ids = state == 'failed' and gone.dead or gone.done
    ids[#ids + 1] = id
  end
  answers[#answers + 1] = state or ''
  answers[#answers + 1] = goes and 1 or 0
end
for index, ids in pairs(gone) do
  if #ids > 0 then redis.call('ZREM', q .. index, unpack(ids)) end
end
commit()
return answers
