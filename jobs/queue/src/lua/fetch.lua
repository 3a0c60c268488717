#!lua flags=allow-oom
-- Hands waiting jobs to a worker, each with a lease and a new run number (the fencing token).
-- KEYS[1]  {queue}:m
-- ARGV     1 worker, 2 how many at most, 3 lease (ms), 4 '1' if the worker runs nothing else now,
--          5 how long to keep a job that has expired (ms)
-- States   scheduled | retrying -> waiting; waiting -> running; waiting -> failed (its deadline has passed)
-- Returns  milliseconds until the next job is due (-1: none); '1' if the worker shall take no more jobs until it is
--          idle, because a suspect waits to run alone; then for each job:
--          id, run, attempts, crashes, '1' if it must run alone, envelope
-- Cost     O(log n) a job. Entries of jobs that were cancelled meanwhile are skipped, 1,000 at most.
local worker, want, lease, idle, keep = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4] == '1', tonumber(ARGV[5])
local _, next_due = promote(200)
local control = redis.call('HMGET', meta, 'paused', 'cap', 'n:running', 'turn')
local answer = { next_due, '0' }
if control[2] then want = math.min(want, control[2] - (control[3] or 0)) end
if control[1] or want < 1 then
  commit()
  return answer
end

local ids, leases, lost_at = {}, {}, text(now + lease)

local function start(id, alone)
  local key = q .. 'j:' .. id
  local job = redis.call('HMGET', key, 'state', 'ver', 'run', 'att', 'crash', 'deadline', 'alone', 'left')
  if job[8] then redis.call('HDEL', key, 'left') end
  -- A suspect is started by its entry among the suspects only.
  if job[1] ~= 'waiting' or (job[7] and not alone) then return false end
  local version, run, attempts = after(job[2]), text((job[3] or 0) + 1), text((job[4] or 0) + 1)
  if job[6] and tonumber(job[6]) < now then
    expired(id, 'waiting', version, job[3] or 0, keep)
    return false
  end
  redis.call('HSET', key, 'state', 'running', 'ver', version, 'run', run, 'att', attempts, 'worker', worker, 'start', at)
  moved('waiting', 'running')
  moved(nil, 'started') -- so many runs have started so far
  event(id, version, 'running', run)
  ids[#ids + 1] = q .. 'b:' .. id
  leases[#leases + 1] = lost_at
  leases[#leases + 1] = id
  local n = #answer
  answer[n + 1], answer[n + 2], answer[n + 3], answer[n + 4], answer[n + 5], answer[n + 6] =
    id, run, attempts, job[5] or 0, alone and '1' or '0', ''
  return true
end

local skipped = 0

-- Suspects first: each runs alone in a process that is idle. One process at a time makes itself idle for them.
if redis.call('EXISTS', q .. 'suspects') == 1 then
  if idle then
    while #ids == 0 and skipped < 1000 do
      local id = redis.call('LPOP', q .. 'suspects')
      if not id then break end
      if not start(id, true) then skipped = skipped + 1 end
    end
  elseif redis.call('SET', q .. 'volunteer', worker, 'NX', 'PX', lease) or redis.call('GET', q .. 'volunteer') == worker then
    redis.call('PEXPIRE', q .. 'volunteer', lease)
    answer[2] = '1'
    commit()
    return answer
  end
end

if #ids == 0 then
  -- Of 15 turns, urgent has 8, high 4, normal 2 and low 1, so that none starves; an empty lane gives its turn away.
  local turns = { 0, 1, 0, 2, 0, 1, 0, 3, 0, 1, 0, 2, 0, 1, 0 }
  local turn = tonumber(control[4] or 0)
  local length = {}
  for priority = 0, 3 do length[priority] = redis.call('LLEN', q .. 'w:' .. priority) end
  while #ids < want and skipped < 1000 do
    local filled, only = 0, nil
    for priority = 0, 3 do
      if length[priority] > 0 then
        filled = filled + 1
        only = priority
      end
    end
    if filled == 0 then break end
    local quota, left = {}, want - #ids
    if filled == 1 then
      quota[only] = math.min(left, length[only])
      length[only] = length[only] - quota[only]
    else
      while left > 0 do
        local priority = turns[turn % 15 + 1]
        for _ = 1, 4 do
          if length[priority] > 0 then break end
          priority = (priority + 1) % 4
        end
        if length[priority] == 0 then break end
        turn = turn + 1
        length[priority] = length[priority] - 1
        quota[priority] = (quota[priority] or 0) + 1
        left = left - 1
      end
    end
    for priority = 0, 3 do
      if quota[priority] then
        local popped = redis.call('LPOP', q .. 'w:' .. priority, quota[priority])
        for _, id in ipairs(popped) do
          if not start(id, false) then skipped = skipped + 1 end
        end
      end
    end
  end
  if turn ~= tonumber(control[4] or 0) then redis.call('HSET', meta, 'turn', turn % 15) end
end

if #ids > 0 then
  redis.call('ZADD', q .. 'lease', unpack(leases))
  for n, envelope in ipairs(redis.call('MGET', unpack(ids))) do
    answer[2 + 6 * n] = envelope
  end
end
commit()
return answer
