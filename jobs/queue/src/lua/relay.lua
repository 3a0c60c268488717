#!lua flags=allow-oom
-- Hands out jobs that are over and of which others have not heard yet. They are handed out again after five seconds
-- unless told.lua removes them.
-- KEYS[1]  {queue}:m
-- ARGV     1 how many jobs at most, 2 how many that wait for them at most
-- States   succeeded | failed | cancelled, or forgotten
-- Returns  for each: id, state ('gone': it has not succeeded and is forgotten), version ('': it is forgotten), result or
--          error ('': none, '-': too large to be handed on), list of those to be told
-- Cost     O(log n) a job, O(1) for each that waits
local answers, left = {}, tonumber(ARGV[2])
for _, id in ipairs(redis.call('ZRANGE', q .. 'relay', '-inf', now, 'BYSCORE', 'LIMIT', 0, ARGV[1])) do
  if left < 1 then break end
  local job = redis.call('HMGET', q .. 'j:' .. id, 'state', 'ver')
  local state, version = job[1], job[2] or '1'
  if not state then
    state, version = redis.call('GET', q .. 'over:' .. id) == 'succeeded' and 'succeeded' or 'gone', ''
  end
  local kids = {}
  if state == 'gone' or is_final(state) then
    kids = redis.call('SRANDMEMBER', q .. 'kids:' .. id, left)
    -- Those that went on waiting after a failure hear of nothing but a success, or that there will be none.
    if #kids == 0 and (state == 'gone' or state == 'succeeded') then
      kids = redis.call('SRANDMEMBER', q .. 'held:' .. id, left)
    end
  end
  if #kids == 0 then
    -- It was replayed, and its next end will be told; or all have heard.
    redis.call('ZREM', q .. 'relay', id)
    if version == '' then redis.call('DEL', q .. 'over:' .. id) end
  else
    left = left - #kids
    redis.call('ZADD', q .. 'relay', now + 5000, id)
    local place = #answers
    answers[place + 1], answers[place + 2], answers[place + 3] = id, state, version
    answers[place + 4], answers[place + 5] = handed_on(id), kids
  end
end
return answers
