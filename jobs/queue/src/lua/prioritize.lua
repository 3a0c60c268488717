#!lua
-- Changes the priority of jobs that have not started.
-- KEYS[1]  {queue}:m
-- ARGV     1 priority (0 urgent … 3 low); then for each job: id, the version that it must have ('': any)
-- States   waiting | scheduled | retrying | parked | blocked stay what they are
-- Returns  for each job: its state, '' if there is no such job; and whether it has that priority now (1 or 0)
-- Cost     O(1) a job; the entry of a waiting job is left in its old lane, where fetch skips it because the priorities
--          disagree (which it looks at from now on: field 'steer' of the queue)
local priority, answers = ARGV[1], {}
for n = 2, #ARGV, 2 do
  local id, expected, key = ARGV[n], ARGV[n + 1], q .. 'j:' .. ARGV[n]
  local job = redis.call('HMGET', key, 'state', 'ver', 'run', 'prio', 'alone')
  local state = job[1]
  local can = state == 'waiting' or state == 'scheduled' or state == 'retrying' or state == 'parked' or state == 'blocked'
  can = can and (expected == '' or expected == (job[2] or '1'))
  if can and (job[4] or '2') ~= priority then
    local version = after(job[2])
    redis.call('HSET', key, 'prio', priority, 'ver', version)
    if state == 'waiting' and (by_kind or not job[5]) then
      steer_on()
      enlane(id, priority)
    end
    event(id, version, state, job[3] or 0)
  end
  answers[#answers + 1] = state or ''
  answers[#answers + 1] = can and 1 or 0
end
commit()
return answers
