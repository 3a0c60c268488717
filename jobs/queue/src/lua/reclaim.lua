#!lua flags=allow-oom
-- Takes runs back whose lease has run out: their worker is dead, paused or cut off.
-- Every worker calls it each second. After a gap in these calls (Redis was away, or nobody was there) nothing is
-- reclaimed for one lease, so that workers that could not renew do not lose what they are doing. Beside that it notes the
-- pace of the queue, for why.lua.
-- KEYS[1]  {queue}:m
-- ARGV     1 how many at most, 2 lease (ms), 3 gap (ms), 4 keep (ms) if it fails, 5 if it is cancelled, unless its kind
--          says otherwise
-- States   running -> waiting (isolated: front of its lane; in-process: a suspect, which next runs alone)
--          running -> cancelled (a caller had asked), running -> failed (crashed alone for the third time)
-- Returns  how many leases were looked at
-- Cost     O(log n) a run
local control = redis.call('HMGET', meta, 'reclaimed', 'grace', 'pace', 'n:started')

-- How many runs had started when: '<time> <number> <time> <number>', the older of them 30 to 60 s ago, so that whoever
-- asks when a job will start knows the pace of late. After a gap it begins anew.
local pace, sample = control[3], at .. ' ' .. (control[4] or 0)
local newer, sampled = string.match(pace or '', ' ((%d+) %d+)$')
if not newer or now - sampled >= 60000 then
  pace = sample .. ' ' .. sample
elseif now - sampled >= 30000 then
  pace = newer .. ' ' .. sample
end
redis.call('HSET', meta, 'reclaimed', now, 'pace', pace)

if not control[1] or now - control[1] > tonumber(ARGV[3]) then
  redis.call('HSET', meta, 'grace', now + ARGV[2])
  return 0
end
if control[2] and now < tonumber(control[2]) then return 0 end

local expired = {}
local leases = redis.call('ZRANGE', q .. 'lease', '-inf', now, 'BYSCORE', 'LIMIT', 0, ARGV[1], 'WITHSCORES')
for n = 1, #leases, 2 do
  local id, last_sign = leases[n], leases[n + 1] - ARGV[2]
  expired[#expired + 1] = id
  local key = q .. 'j:' .. id
  local job = redis.call('HMGET', key, 'state', 'run', 'ver', 'att', 'crash', 'prio', 'cancel', 'alone', 'iso', 'worker',
      'start', 'deadline', 'ties')
  if job[1] == 'running' then
    local version, to, crashes = after(job[3]), 'waiting', job[5] or 0
    local lost = '{"code":"worker_lost","class":"unavailable",'
      .. '"message":"the worker stopped renewing its lease: it died, was paused or was cut off","retryable":true}'
    local said = lost
    if job[8] then
      crashes = crashed(key, crashes, last_sign - job[11])
      moved(nil, 'crashes')
      if crashes >= 3 then
        to = 'failed'
        said = '{"code":"crashed","class":"internal",'
          .. '"message":"the job took its worker down three times while it ran alone","retryable":false}'
      end
    end
    if job[7] then to = 'cancelled' end
    redis.call('RPUSH', q .. 'tries:' .. id, table.concat({ job[2], job[10], job[11], at, lost }, ' '))
    redis.call('LTRIM', q .. 'tries:' .. id, -50, -1)
    redis.call('SET', q .. 'r:' .. id, said)
    redis.call('HSET', key, 'state', to, 'ver', version, 'att', job[4] - 1, 'crash', crashes, 'more', 1)
    local ties = job[13] and ties_of(id)
    if ties and ties[1] then
      unhold(id, ties[1])
      redis.call('HDEL', key, 'lim')
    end
    local alone = not job[9]
    if alone then redis.call('HSET', key, 'alone', 1) end
    moved(nil, 'reclaimed') -- so many leases were taken back so far
    if to == 'waiting' then
      redis.call('HSET', key, 'due', at)
      enlane(id, job[6], alone, not alone)
    else
      redis.call('HSET', key, 'end', at)
      ended(id, to, kept(id, to, to == 'failed' and ARGV[4] or ARGV[5]), job[12], ties)
    end
    moved('running', to)
    event(id, version, to, job[2])
  end
end
if #expired > 0 then redis.call('ZREM', q .. 'lease', unpack(expired)) end
commit()
return #expired
