#!lua flags=no-writes
-- Reads what the live worker processes have said of themselves, at one moment.
-- KEYS[1]  {queue}:m
-- ARGV     1 after which silence (ms) a process is dead
-- Returns  for each process (1,000 at most): name, when it last said that it lives, 1 if it drains, fields and values
-- Cost     O(1) a process
local answers = {}
local live = redis.call('ZRANGE', q .. 'workers', now - ARGV[1], '+inf', 'BYSCORE', 'LIMIT', 0, 1000, 'WITHSCORES')
for n = 1, #live, 2 do
  local worker = live[n]
  answers[#answers + 1] = {
    worker,
    live[n + 1],
    redis.call('SISMEMBER', q .. 'draining', worker),
    redis.call('HGETALL', q .. 'wk:' .. worker),
  }
end
return answers
