#!lua flags=allow-oom
-- Renews the leases of runs. A lease that has run out but was not reclaimed yet is renewed too.
-- KEYS[1]  {queue}:m
-- ARGV     1 lease (ms), then for each run: id, run
-- States   running
-- Returns  for each run: 1 renewed, 2 renewed and a caller asked to stop it, 0 the run is somebody else's or over
-- Cost     O(log n) a run
local answers, leases = {}, {}
for n = 2, #ARGV, 2 do
  local job = redis.call('HMGET', q .. 'j:' .. ARGV[n], 'state', 'run', 'cancel')
  if job[1] == 'running' and job[2] == ARGV[n + 1] then
    leases[#leases + 1] = now + ARGV[1]
    leases[#leases + 1] = ARGV[n]
    answers[#answers + 1] = job[3] and 2 or 1
  else
    answers[#answers + 1] = 0
  end
end
if #leases > 0 then redis.call('ZADD', q .. 'lease', unpack(leases)) end
return answers
