#!lua flags=allow-oom
-- Hands waiting jobs to a worker, each with a lease and a new run number (the fencing token).
-- KEYS[1]  {queue}:m
-- ARGV     1 worker, 2 how many at most, 3 lease (ms), 4 '1' if the worker runs nothing else now,
--          5 how long to keep a job that has expired (ms); of external jobs also 6 … whose: '<tenant> kind/<kind>' each
-- States   scheduled | retrying -> waiting; waiting -> running; waiting -> failed (its deadline has passed)
-- Returns  milliseconds until there is more to do (-1: nothing to come); '1' if the worker shall take no more jobs until
--          it is idle, because a suspect waits to run alone; then for each job:
--          id, run, attempts, crashes, '1' if it must run alone, how long it has waited (ms), envelope
-- Cost     O(log n) a job. Entries of jobs that were cancelled meanwhile, of those that belong into another lane by now
--          and lanes that go to sleep are passed over, 1,000 at most. O(n) in the tenants and kinds that are named.
-- An external job that is a suspect comes alone in its answer: whether its worker runs others only that worker knows.
local worker, want, lease, idle, keep = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4] == '1', tonumber(ARGV[5])
local control = redis.call('HMGET', meta, 'paused', 'cap', 'n:running', 'turn', 'steer', 'limited', 'wire')
steered, classes, wired = control[5], control[6], control[7]
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

-- Starts a job that stands in this lane of a steered queue (nil: among the suspects, or of a queue that is not steered).
local function start(id, alone, priority, lane)
  local key = q .. 'j:' .. id
  local job
  if S then
    job = redis.call('HMGET', key, 'state', 'ver', 'run', 'att', 'crash', 'deadline', 'alone', 'left', 'at', 'due', 'prio',
      'grp', 'keys', 'uniq')
  else
    job = redis.call('HMGET', key, 'state', 'ver', 'run', 'att', 'crash', 'deadline', 'alone', 'left', 'at', 'due')
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
    local own = S.lane_of(id, job[12], job[13])
    local from_suspects = not lane
    if from_suspects then
      lane = own
    elseif (job[11] or '2') ~= priority then
      return false -- Its priority has changed: it has another entry.
    elseif own ~= lane then
      strays[#strays + 1] = { own, id } -- Limits have come or gone since it was put here.
      return false
    end
    if job[14] and string.byte(job[14]) == 115 then yield_key(id, job[14]) end -- 's': until it starts
    local names
    names, holds = S.limits_of(lane)
    if from_suspects then
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
  -- It waits since it was accepted or, if that was later, since it became due.
  local waited = math.max(0, now - math.max(job[9], job[10] or 0))
  answer[n + 1], answer[n + 2], answer[n + 3], answer[n + 4], answer[n + 5], answer[n + 6], answer[n + 7] =
    id, run, attempts, job[5] or 0, alone and '1' or '0', waited, ''
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
local suspect = not by_kind and redis.call('EXISTS', q .. 'suspects') == 1 and next_suspect()
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

-- Whether the answer is full although more was asked for: a suspect comes alone.
local closed = false

-- One turn of the next tenant of a priority (or of `owner`, of whom no ring tells), with its next lane: starts `share` of
-- its jobs, `quota` at most. Returns how many it took out of the lane, or nil if nobody of this priority waits.
local weighted
local function take_turn(priority, quota, share, owner)
  local ring = q .. 'ring:' .. priority
  local tenant = owner or redis.call('LMOVE', ring, ring, 'LEFT', 'RIGHT')
  if not tenant then return nil end
  local lanes = q .. 'lanes:' .. priority .. ':' .. tenant
  local lane = redis.call('LMOVE', lanes, lanes, 'LEFT', 'RIGHT')
  if not lane then
    if owner then return nil end
    redis.call('RPOP', ring)
    return 0
  end
  local alone = owner and string.find(lane, ' !alone', 1, true) ~= nil
  if alone then
    closed = true
    if #ids > 0 then
      -- It is the first of the next answer, whatever else waits by then.
      redis.call('LMOVE', lanes, lanes, 'RIGHT', 'LEFT')
      redis.call('HSET', q .. 'alone', owner, priority)
      return 0
    end
    quota = 1
  end
  -- Where tenants have weights, a turn is as many jobs, if need be over several fetches.
  local due = 'due:' .. priority
  if weighted == nil then weighted = not owner and redis.call('EXISTS', q .. 'weights') == 1 end
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
    if not start(id, alone, priority, lane) then skipped = skipped + 1 end
  end
  if alone and #ids == 0 then closed = false end
  for _, name in ipairs(limits) do
    S.take(name, started)
    if S.room(name) < 1 then full = name end
  end
  -- A lane that is empty or held back leaves the turns, and with its last lane its tenant does. Both stand at the end.
  local empty = #popped < free or redis.call('EXISTS', place) == 0
  local held = not empty and full
  if empty or held then
    redis.call('RPOP', lanes)
    if not owner and redis.call('EXISTS', lanes) == 0 then
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

-- Takes external jobs of a priority, by turns of those that the worker names, until no turn brings any more.
local function take_in_turn(priority, quota)
  local share = math.max(1, math.floor(quota / math.max(1, #ARGV - 5)))
  local taken
  repeat
    taken = 0
    for n = 6, #ARGV do
      local count = quota > 0 and not closed and take_turn(text(priority), quota, share, ARGV[n]) or 0
      quota, taken = quota - count, taken + count
    end
  until taken == 0 or skipped >= 1000
end

-- Takes the suspect that an earlier answer had no room for.
local function take_suspect()
  for n = 6, #ARGV do
    local priority = #ids == 0 and redis.call('HGET', q .. 'alone', ARGV[n])
    if priority then
      redis.call('HDEL', q .. 'alone', ARGV[n])
      take_turn(priority, 1, 1, ARGV[n])
    end
  end
end

-- Whether anybody of a priority waits whom this worker may serve.
local function waits(priority)
  if not by_kind then return redis.call('EXISTS', q .. 'ring:' .. priority) == 1 end
  for n = 6, #ARGV do
    if redis.call('EXISTS', q .. 'lanes:' .. priority .. ':' .. ARGV[n]) == 1 then return true end
  end
  return false
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
  if by_kind then return take_in_turn(priority, quota) end
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

if by_kind and redis.call('EXISTS', q .. 'alone') == 1 then take_suspect() end

if #ids == 0 then
  -- Of 15 turns, urgent has 8, high 4, normal 2 and low 1, so that none starves; an empty lane gives its turn away.
  local turns = { 0, 1, 0, 2, 0, 1, 0, 3, 0, 1, 0, 2, 0, 1, 0 }
  local turn = tonumber(control[4] or 0)
  local length = {}
  if not S then
    for priority = 0, 3 do length[priority] = redis.call('LLEN', q .. 'w:' .. priority) end
  end
  while #ids < want and skipped < 1000 and not closed do
    local filled, only = 0, nil
    for priority = 0, 3 do
      -- How many jobs a ring leads to is not known, and need not be: what a turn does not find goes to others.
      if S then length[priority] = waits(priority) and want or 0 end
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
    answer[2 + 7 * n] = envelope
  end
end
return finish()
