#!lua flags=no-writes
-- Reads what a job may wait for, at one moment.
-- KEYS[1]  {queue}:m
-- ARGV     1 id, 2 how many entries of its lane to search at most, 3 how many of the jobs that it waits for to name
-- Returns  nothing if there is no such job, else: time now (ms), fields and values of its hash, envelope, error; of the
--          queue: paused, cap, running jobs, pace (see reclaim.lua), runs started so far, waiting jobs; how many jobs it
--          waits for, some of them; how many entries its lane has, how many of them stand before it (-1: not found); 1 if
--          the queue is steered, how many lanes its tenant has, and for each priority how many tenants take turns, or how
--          many jobs wait if the queue is not steered
-- Cost     O(1), but O(n) in the entries before it, which are few or as many as ARGV[2]
local id, most = ARGV[1], ARGV[2]
local key = q .. 'j:' .. id
local job = redis.call('HMGET', key, 'state', 'prio', 'alone', 'grp', 'keys')
if not job[1] then return {} end

local priority, lane, lanes = job[2] or '2', '', 1
if is_steered() then
  lane = steering().lane_of(id, job[4], job[5])
  lanes = redis.call('LLEN', q .. 'lanes:' .. priority .. ':' .. steering().owner(lane))
end
local place = job[3] and not by_kind and q .. 'suspects' or lane_key(priority, lane)
local ahead = job[1] == 'waiting' and redis.call('LPOS', place, id, 'MAXLEN', most)

local rivals = {}
for other = 0, 3 do
  rivals[other + 1] = redis.call('LLEN', steered and q .. 'ring:' .. other or lane_key(other, ''))
end

local parents = q .. 'dep:' .. id
return {
  now,
  redis.call('HGETALL', key),
  redis.call('GET', q .. 'b:' .. id),
  redis.call('GET', q .. 'r:' .. id),
  redis.call('HMGET', meta, 'paused', 'cap', 'n:running', 'pace', 'n:started', 'n:waiting'),
  redis.call('SCARD', parents),
  redis.call('SRANDMEMBER', parents, ARGV[3]),
  redis.call('LLEN', place),
  ahead or -1,
  steered and 1 or 0,
  lanes,
  rivals,
}
