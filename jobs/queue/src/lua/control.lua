#!lua flags=allow-oom
-- Sets what steers a queue as a whole. It is in force from the next fetch or push on; shares of slots from the next beat,
-- which a message asks every worker process for.
-- KEYS[1]  {queue}:m
-- ARGV     field and value, any number of times; the value '' takes the field away:
--            paused  1: nothing is fetched
--            cap     running jobs at most
--            slots   slots of all worker processes together, shared out by beat.lua
--            processes  worker processes that each supervisor keeps running
--            limit   waiting and scheduled jobs at most
-- Returns  1
-- Cost     O(1)
for n = 1, #ARGV, 2 do
  if ARGV[n + 1] == '' then
    redis.call('HDEL', meta, ARGV[n])
  else
    redis.call('HSET', meta, ARGV[n], ARGV[n + 1])
  end
  if ARGV[n] == 'slots' then redis.call('PUBLISH', q .. 'ctl', 'beat') end
end
awake = true -- there may be more to fetch than before
commit()
return 1
