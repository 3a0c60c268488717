#!lua flags=no-writes
-- Reads since when the oldest job waits that is at the head of a lane.
-- KEYS[1]  {queue}:m
-- Returns  when it was accepted (ms), or -1 if nobody waits
-- Cost     O(1) a lane. Ten entries of a lane are looked at: those of jobs that were cancelled there do not count
local oldest = -1
for _, lane in ipairs({ 'suspects', 'w:0', 'w:1', 'w:2', 'w:3' }) do
  for _, id in ipairs(redis.call('LRANGE', q .. lane, 0, 9)) do
    local job = redis.call('HMGET', q .. 'j:' .. id, 'state', 'at')
    if job[1] == 'waiting' then
      local accepted = tonumber(job[2])
      if oldest < 0 or accepted < oldest then oldest = accepted end
      break
    end
  end
end
return oldest
