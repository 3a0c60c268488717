#!lua flags=allow-oom
-- Hands waiting jobs to a worker, each with a lease and a new run number (the fencing token).
-- KEYS[1]  {queue}:m
-- ARGV     1 worker, 2 how many at most, 3 lease (ms), 4 '1' if the worker runs nothing else now,
--          5 how long to keep a job that has expired (ms)
-- States   scheduled | retrying -> waiting; waiting -> running; waiting -> failed (its deadline has passed)
-- Returns  milliseconds until there is more to do (-1: nothing to come); '1' if the worker shall take no more jobs until
--          it is idle, because a suspect waits to run alone; then for each job:
--          id, run, attempts, crashes, '1' if it must run alone, envelope
-- Cost     O(log n) a job. Entries of jobs that were cancelled meanwhile, of those that belong into another lane by now
--          and lanes that go to sleep are passed over, 1,000 at most.
local worker, want, lease, idle, keep = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4] == '1', tonumber(ARGV[5])
local control = redis.call('HMGET', meta, 'paused', 'cap', 'n:running', 'turn', 'steer', 'limited')
steered, classes = control[5], control[6]
promote(200)
local answer = { 0, '0' }
local function finish()
  commit()
  answer[1] = next_due()
  return answer
end

local S = steered and steering()
if control[2] then want = math.min(want, control[2] - (control[3] or 0)) end
if classes and string.find(classes, ' queue ', 1, true) then
  want = math.min(want, S.room('queue'))
  if want < 1 then S.look_again('queue') end
end
if control[1] or want < 1 then return finish() end

local ids, leases, lost_at, started, strays = {}, {}, text(now + lease), {}, {}

-- Starts a job that stands in this lane of a steered queue (nil: among the suspects, or of a queue that is not).
local function start(id, alone, priority, lane)
  local key = q .. 'j:' .. id
  local job
  if S then
    job = redis.call('HMGET', key, 'state', 'ver', 'run', 'att', 'crash', 'deadline', 'alone', 'left', 'prio', 'grp',
      'keys', 'uniq')
  else
    job = redis.call('HMGET', key, 'state', 'ver', 'run', 'att', 'crash', 'deadline', 'alone', 'left')
  end
  if job[8] then redis.call('HDEL', key, 'left') end
  -- A suspect is started by its entry among the suspects only.
  if job[1] ~= 'waiting' or (job[7] and not alone) then return false end
  local version, run, attempts = after(job[2]), text((job[3] or 0) + 1), text((job[4] or 0) + 1)
  if job[6] and tonumber(job[6]) < now then
    expired(id, 'waiting', version, job[3] or 0, keep)
    return false
  end
  local holds
  if S then
    local own = S.lane_of(id, job[10], job[11])
    if alone then
      lane = own
    elseif (job[9] or '2') ~= priority then
      return false -- Its priority has changed: it has another entry.
    elseif own ~= lane then
      strays[#strays + 1] = { own, id } -- Limits have come or gone since it was put here.
      return false
    end
    if job[12] and string.byte(job[12]) == 115 then yield_key(id, job[12]) end -- 's': until it starts
    local names
    names, holds = S.limits_of(lane)
    if alone then
      for _, name in ipairs(names) do S.take(name, { id }) end
    end
    started[#started + 1] = id
  end
  if holds then
    redis.call('HSET', key, 'state', 'running', 'ver', version, 'run', run, 'att', attempts, 'worker', worker, 'start', at,
      'lim', holds, 'ties', 1)
  else
    redis.call('HSET', key, 'state', 'running', 'ver', version, 'run', run, 'att', attempts, 'worker', worker, 'start', at)
  end
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

-- The first of the suspects that may start. One that a limit holds back keeps its place, and nobody waits for it.
local function next_suspect()
  for _, id in ipairs(redis.call('LRANGE', q .. 'suspects', 0, 15)) do
    if not S then return id end
    local job, free = redis.call('HMGET', q .. 'j:' .. id, 'grp', 'keys'), true
    for _, name in ipairs(S.limits_of(S.lane_of(id, job[1], job[2]))) do free = free and S.room(name) >= 1 end
    if free then return id end
  end
end

-- Suspects first: each runs alone in a process that is idle. One process at a time makes itself idle for them.
local suspect = redis.call('EXISTS', q .. 'suspects') == 1 and next_suspect()
if suspect then
  if idle then
    while suspect and #ids == 0 and skipped < 1000 do
      redis.call('LREM', q .. 'suspects', 1, suspect)
      if not start(suspect, true) then skipped = skipped + 1 end
      suspect = #ids == 0 and next_suspect()
    end
  elseif redis.call('SET', q .. 'volunteer', worker, 'NX', 'PX', lease) or redis.call('GET', q .. 'volunteer') == worker then
    redis.call('PEXPIRE', q .. 'volunteer', lease)
    answer[2] = '1'
    return finish()
  end
end

-- One turn of the next tenant of a priority, with its next lane: starts `share` of its jobs, `quota` at most. Returns how
-- many it took out of the lane, or nil if nobody of this priority waits.
local weighted
local function take_turn(priority, quota, share)
  local ring = q .. 'ring:' .. priority
  local tenant = redis.call('LMOVE', ring, ring, 'LEFT', 'RIGHT')
  if not tenant then return nil end
  local lanes = q .. 'lanes:' .. priority .. ':' .. tenant
  local lane = redis.call('LMOVE', lanes, lanes, 'LEFT', 'RIGHT')
  if not lane then
    redis.call('RPOP', ring)
    return 0
  end
  -- Where tenants have weights, a turn is as many jobs, if need be over several fetches.
  local due = 'due:' .. priority
  if weighted == nil then weighted = redis.call('EXISTS', q .. 'weights') == 1 end
  if weighted then
    share = tonumber(redis.call('HGET', meta, due) or redis.call('HGET', q .. 'weights', tenant) or 1)
    redis.call('HDEL', meta, due)
  end
  local free, full = math.min(share, quota), nil
  local limits = S.limits_of(lane)
  for _, name in ipairs(limits) do free = math.min(free, S.room(name)) end
  local popped, place = {}, lane_key(priority, lane)
  if free >= 1 then popped = redis.call('LPOP', place, free) or {} end
  started = {}
  for _, id in ipairs(popped) do
    if not start(id, false, priority, lane) then skipped = skipped + 1 end
  end
  for _, name in ipairs(limits) do
    S.take(name, started)
    if S.room(name) < 1 then full = name end
  end
  -- A lane that is empty or held back leaves the turns, and with its last lane its tenant does. Both stand at the end.
  local empty = #popped < free or redis.call('EXISTS', place) == 0
  local held = not empty and full
  if empty or held then
    redis.call('RPOP', lanes)
    if redis.call('EXISTS', lanes) == 0 then
      redis.call('RPOP', ring)
      share = 0
    end
    if empty then redis.call('ZREM', q .. 'lanes', priority .. ' ' .. lane) else S.sleep(priority, lane, full) end
  end
  if weighted and share > #popped then
    redis.call('LMOVE', ring, ring, 'RIGHT', 'LEFT')
    redis.call('HSET', meta, due, share - #popped)
  end
  -- Room that it leaves is for the next that sleeps over the same limit.
  for _, name in ipairs(limits) do
    if name ~= full or not held then S.wake(name, 1) end
  end
  for _, stray in ipairs(strays) do S.join(priority, stray[1], { stray[2] }) end
  strays = {}
  if #popped == 0 then skipped = skipped + 1 end
  return #popped
end

-- Takes jobs of a priority: from its plain lane or, of a steered queue, by turns of its tenants.
local function take_jobs(priority, quota)
  if not S then
    local popped = redis.call('LPOP', q .. 'w:' .. priority, quota)
    for _, id in ipairs(popped) do
      if not start(id, false) then skipped = skipped + 1 end
    end
    return
  end
  local turns_left, share = 0, 1
  while quota > 0 and skipped < 1000 do
    if turns_left == 0 then
      turns_left = redis.call('LLEN', q .. 'ring:' .. priority)
      share = math.max(1, math.floor(quota / math.max(1, turns_left)))
    end
    local taken = take_turn(text(priority), quota, share)
    if not taken then return end
    quota, turns_left = quota - taken, math.max(0, turns_left - 1)
  end
end

if #ids == 0 then
  -- Of 15 turns, urgent has 8, high 4, normal 2 and low 1, so that none starves; an empty lane gives its turn away.
  local turns = { 0, 1, 0, 2, 0, 1, 0, 3, 0, 1, 0, 2, 0, 1, 0 }
  local turn = tonumber(control[4] or 0)
  local length = {}
  if not S then
    for priority = 0, 3 do length[priority] = redis.call('LLEN', q .. 'w:' .. priority) end
  end
  while #ids < want and skipped < 1000 do
    local filled, only = 0, nil
    for priority = 0, 3 do
      -- How many jobs a ring leads to is not known, and need not be: what a turn does not find goes to others.
      if S then length[priority] = redis.call('EXISTS', q .. 'ring:' .. priority) * want end
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
      if quota[priority] then take_jobs(priority, quota[priority]) end
    end
  end
  if turn ~= tonumber(control[4] or 0) then redis.call('HSET', meta, 'turn', turn % 15) end
end

if #ids > 0 then
  if classes and string.find(classes, ' queue ', 1, true) then S.take('queue', ids) end
  redis.call('ZADD', q .. 'lease', unpack(leases))
  for n, envelope in ipairs(redis.call('MGET', unpack(ids))) do
    answer[2 + 6 * n] = envelope
  end
end
return finish()
