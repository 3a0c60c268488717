#!lua
-- Says what a limit allows, or that there is none any more. What runs goes on; jobs that started before there was a limit
-- do not count against it.
-- KEYS[1]  {queue}:m
-- ARGV     1 name ('<class>/<value>', '<class>/*' for each value that has none of its own, 'queue' for all jobs),
--          2 jobs at once ('-': any number), 3 jobs a second ('-': any number), 4 burst and the rate in words ('-' without
--          a rate); 2 is '' for no limit; 5 how many limits a queue may have
-- Returns  1, or 0 if the queue has as many limits as it may have
-- Cost     O(n) in the limits that are said
local name, limits = ARGV[1], q .. 'limits'
if ARGV[2] == '' then
  redis.call('HDEL', limits, name)
else
  if redis.call('HLEN', limits) >= tonumber(ARGV[5]) and redis.call('HEXISTS', limits, name) == 0 then return 0 end
  redis.call('HSET', limits, name, ARGV[2] .. ' ' .. ARGV[3] .. ' ' .. ARGV[4])
  steer_on()
end
local known, of = {}, ' '
for _, said in ipairs(redis.call('HKEYS', limits)) do
  local class = string.match(said, '^[^/]*')
  if not known[class] then of = of .. class .. ' ' end
  known[class] = true
end
if of == ' ' then redis.call('HDEL', meta, 'limited') else redis.call('HSET', meta, 'limited', of) end
redis.call('ZADD', q .. 'asleep', 'XX', now, name)
awake = true
commit()
return 1
