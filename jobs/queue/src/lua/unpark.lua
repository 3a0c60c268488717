#!lua
-- Lets parked jobs run: what they waited for is there.
-- KEYS[1]  {queue}:m
-- ARGV     1 reason, 2 how many at most
-- States   parked -> waiting
-- Returns  how many entries were looked at; call again until it is less than asked for
-- Cost     O(log n) a job
local index = q .. 'parked:' .. ARGV[1]
local ids = redis.call('ZRANGE', index, 0, ARGV[2] - 1)
for _, id in ipairs(ids) do
  local key = q .. 'j:' .. id
  local job = redis.call('HMGET', key, 'state', 'ver', 'run', 'prio', 'alone')
  if job[1] == 'parked' then
    local version = after(job[2])
    redis.call('HSET', key, 'state', 'waiting', 'ver', version)
    enlane(id, job[4], job[5])
    moved('parked', 'waiting')
    event(id, version, 'waiting', job[3] or 0)
  end
end
if #ids > 0 then redis.call('ZREM', index, unpack(ids)) end
commit()
return #ids
