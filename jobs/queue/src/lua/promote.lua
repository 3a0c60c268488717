#!lua flags=allow-oom
-- Lets jobs run whose time has come.
-- KEYS[1]  {queue}:m
-- ARGV[1]  how many at most
-- States   scheduled | retrying -> waiting
-- Returns  how many were moved, milliseconds until the next is due (-1: none)
-- Cost     O(log n) a job
local count = promote(tonumber(ARGV[1]))
commit()
return { count, next_due() }
