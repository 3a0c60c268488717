#!lua flags=no-writes
-- Reads what a queue has to do, what is asked for it and how fast it has been, at one moment.
-- KEYS[1]  {queue}:m
-- Returns  now (ms); waiting, running, pace (see reclaim.lua), runs started so far, processes, slots; the bounds of who
--          autoscales it ('<min> <max>')
-- Cost     O(1)
return {
  now,
  redis.call('HMGET', meta, 'n:waiting', 'n:running', 'pace', 'n:started', 'processes', 'slots'),
  redis.call('GET', q .. 'autoscale'),
}
