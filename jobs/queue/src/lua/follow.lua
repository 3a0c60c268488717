#!lua
-- Ties jobs to those that they wait for, here: they will be told what becomes of them. Doing it again changes nothing.
-- KEYS[1]  {queue}:m
-- ARGV     for each tie: id of the job here, full id of the one that waits for it
-- States   any
-- Returns  for each tie to a job that is over or unknown: its place (from 1), state ('': unknown), version ('': it is
--          forgotten), result or error ('': none, '-': too large to be handed on). Whoever called tells those that wait; if it does not, the
--          relay does after five seconds.
-- Cost     O(log n) a tie
local answers = {}
for n = 1, #ARGV, 2 do
  local id, kid = ARGV[n], ARGV[n + 1]
  local key = q .. 'j:' .. id
  local job = redis.call('HMGET', key, 'state', 'ver', 'kin')
  local state, version = job[1], job[2] or '1'
  if state then
    redis.call('SADD', q .. 'kids:' .. id, kid)
    -- For whoever looks at the whole flow later.
    if redis.call('SCARD', q .. 'next:' .. id) < 1000 then redis.call('SADD', q .. 'next:' .. id, kid) end
    if not job[3] then redis.call('HSET', key, 'ties', 1, 'more', 1, 'kin', 1) end
    if is_final(state) then redis.call('ZADD', q .. 'relay', 'NX', now + 5000, id) end
  else
    state, version = redis.call('GET', q .. 'over:' .. id) == 'succeeded' and 'succeeded' or '', ''
  end
  if state == '' or is_final(state) then
    local place = #answers
    answers[place + 1], answers[place + 2], answers[place + 3] = (n + 1) / 2, state, version
    answers[place + 4] = handed_on(id)
  end
end
return answers
