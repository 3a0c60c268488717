#!lua
-- Says how many jobs a tenant's lanes give in their turn.
-- KEYS[1]  {queue}:m
-- ARGV     1 tenant, 2 weight (1: as everybody)
-- Returns  1
-- Cost     O(1)
if ARGV[2] == '1' then
  redis.call('HDEL', q .. 'weights', ARGV[1])
else
  redis.call('HSET', q .. 'weights', ARGV[1], ARGV[2])
  steer_on()
end
commit()
return 1
