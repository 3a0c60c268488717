#!lua
-- Lets parked jobs run: what they waited for is there.
-- KEYS[1]  {queue}:m
-- ARGV     1 reason, 2 how many at most, 3 only those that were parked until this time (ms; '': until now)
-- States   parked -> waiting
-- Returns  how many entries were looked at, and that time: call again with it until the number is less than asked for;
--          jobs that are parked again meanwhile are not released again
-- Cost     O(log n) a job
local index, latest = q .. 'parked:' .. ARGV[1], ARGV[3] == '' and now or ARGV[3]
local ids = redis.call('ZRANGE', index, '-inf', latest, 'BYSCORE', 'LIMIT', 0, ARGV[2])
for _, id in ipairs(ids) do
  local key = q .. 'j:' .. id
  local job = redis.call('HMGET', key, 'state', 'ver', 'run', 'prio', 'alone')
  if job[1] == 'parked' then
    local version = after(job[2])
    redis.call('HSET', key, 'state', 'waiting', 'ver', version, 'due', at)
    enlane(id, job[4], job[5])
    moved('parked', 'waiting')
    event(id, version, 'waiting', job[3] or 0)
  end
end
if #ids > 0 then redis.call('ZREM', index, unpack(ids)) end
commit()
return { #ids, latest }
