#!lua flags=no-writes
-- Reads what a job may wait for, at one moment.
-- KEYS[1]  {queue}:m
-- ARGV     1 id, 2 how many entries of its lane to search at most, 3 how many of the jobs that it waits for to name
-- Returns  nothing if there is no such job, else: time now (ms), fields and values of its hash, envelope, error; of the
--          queue: paused, cap, running jobs, pace (see reclaim.lua), runs started so far; how many jobs it waits for,
--          some of them; how many entries stand before it in its lane (-1: not found), the lengths of the four lanes
-- Cost     O(1), but O(n) in the entries before it, which are few or as many as ARGV[2]
local id, most = ARGV[1], ARGV[2]
local key = q .. 'j:' .. id
local job = redis.call('HMGET', key, 'state', 'prio', 'alone')
if not job[1] then return {} end

local parents, ahead = q .. 'dep:' .. id, false
if job[1] == 'waiting' then
  ahead = redis.call('LPOS', q .. (job[3] and 'suspects' or 'w:' .. (job[2] or 2)), id, 'MAXLEN', most)
end
local lengths = {}
for priority = 0, 3 do lengths[priority + 1] = redis.call('LLEN', q .. 'w:' .. priority) end

return {
  now,
  redis.call('HGETALL', key),
  redis.call('GET', q .. 'b:' .. id),
  redis.call('GET', q .. 'r:' .. id),
  redis.call('HMGET', meta, 'paused', 'cap', 'n:running', 'pace', 'n:started'),
  redis.call('SCARD', parents),
  redis.call('SRANDMEMBER', parents, ARGV[3]),
  ahead or -1,
  lengths,
}
