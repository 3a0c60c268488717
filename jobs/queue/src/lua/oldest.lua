#!lua flags=no-writes
-- Reads since when the oldest job waits that is at the head of a lane.
-- KEYS[1]  {queue}:m
-- Returns  when it was accepted (ms), or -1 if nobody waits
-- Cost     O(1) a lane, a thousand of them at most. Ten entries of a lane are looked at: those of jobs that were cancelled
--          there do not count
local lanes = { q .. 'suspects' }
if is_steered() then
  for _, lane in ipairs(redis.call('ZRANGE', q .. 'lanes', 0, 999)) do
    lanes[#lanes + 1] = lane_key(string.match(lane, '^(%d) (.*)$'))
  end
else
  for priority = 0, 3 do lanes[#lanes + 1] = lane_key(priority, '') end
end

local oldest = -1
for _, lane in ipairs(lanes) do
  for _, id in ipairs(redis.call('LRANGE', lane, 0, 9)) do
    local job = redis.call('HMGET', q .. 'j:' .. id, 'state', 'at')
    if job[1] == 'waiting' then
      local accepted = tonumber(job[2])
      if oldest < 0 or accepted < oldest then oldest = accepted end
      break
    end
  end
end
return oldest
