#!lua flags=allow-oom
-- Has the limits of a class looked at again by the next fetch, because what it allows has changed.
-- KEYS[1]  {queue}:m
-- ARGV     1 class, 2 cursor ('0': from the beginning)
-- Returns  the cursor with which to go on ('0': that was all)
-- Cost     O(log n) a limit over which lanes sleep, about a thousand of them
local found = redis.call('ZSCAN', q .. 'asleep', ARGV[2], 'MATCH', ARGV[1] .. '/*', 'COUNT', 1000)
for n = 1, #found[2], 2 do redis.call('ZADD', q .. 'asleep', 'XX', now, found[2][n]) end
awake = true
commit()
return found[1]
