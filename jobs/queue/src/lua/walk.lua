#!lua flags=no-writes
-- Walks through a sorted set of jobs, in an order that stays as it is while jobs leave it.
-- KEYS[1]  {queue}:m
-- ARGV     1 index (dead, later), 2 how many at most, 3 time and 4 id of the entry after which to go on ('' and '': from
--          the beginning)
-- Returns  the time now (ms), then for each entry: id, time (until when it is kept; when it is due)
-- Cost     O(log n) to find the place, which nobody need hold any more; O(1) an entry
local index, time, id = q .. ARGV[1], ARGV[3], ARGV[4]
local start = 0
if time ~= '' then
  -- Entries of one time are in the order of their ids: the place lies among them.
  start = redis.call('ZCOUNT', index, '-inf', '(' .. time)
  local stop = start + redis.call('ZCOUNT', index, time, time)
  while start < stop do
    local middle = math.floor((start + stop) / 2)
    if redis.call('ZRANGE', index, middle, middle)[1] > id then stop = middle else start = middle + 1 end
  end
end
local answer = redis.call('ZRANGE', index, start, start + ARGV[2] - 1, 'WITHSCORES')
table.insert(answer, 1, now)
return answer
