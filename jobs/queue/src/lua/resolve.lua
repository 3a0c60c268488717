#!lua flags=allow-oom
-- Tells jobs what became of others that they wait for. Telling it again changes nothing.
-- KEYS[1]  {queue}:m
-- ARGV     1 keep (ms) a job that is cancelled or succeeds, 2 one that fails, unless its kind says otherwise; then for
--          each job that is over: full id, state ('gone': forgotten, and not known to have succeeded), outcome (JSON), the
--          error of those that are cancelled because of it, how many wait for it; and their ids
-- States   blocked -> waiting | scheduled (nothing left to wait for), cancelled (what it waits for did not succeed);
--          of the handle of a batch: blocked -> succeeded | failed (all members are over)
-- Returns  for each that was told: 1 it need not hear of it again, 0 it waits for its success
-- Cost     O(log n) for each that was told
local answers, batches = {}, {}

-- A member of a batch is over.
local function count_member(id, key, parent, state)
  if redis.call('SREM', q .. 'dep:' .. id, parent) == 0 then return end
  local way = state == 'gone' and 'cancelled' or state
  redis.call('HSET', q .. 'par:' .. id, parent, '{"state":"' .. way .. '"}')
  redis.call('HINCRBY', key, 'm:' .. way, 1)
  if way ~= 'succeeded' and tonumber(redis.call('HGET', key, 'm:listed') or 0) < 100 then
    redis.call('HINCRBY', key, 'm:listed', 1)
    local comma = redis.call('EXISTS', q .. 'lost:' .. id) == 1 and ',' or ''
    redis.call('APPEND', q .. 'lost:' .. id, comma .. '"' .. parent .. '"')
  end
  batches[id] = true
end

-- A job has nothing left to wait for.
local function go(id, key, version, priority, alone, due)
  unblock(id)
  local to = due and tonumber(due) > now and 'scheduled' or 'waiting'
  redis.call('HSET', key, 'state', to, 'ver', version)
  if to == 'scheduled' then
    redis.call('ZADD', q .. 'later', due, id)
    awake = true
  else
    redis.call('HSET', key, 'due', at)
    enlane(id, priority, alone)
  end
  moved('blocked', to)
  event(id, version, to, '0')
end

local function cancel(id, key, version, deadline, error)
  unblock(id)
  redis.call('HSET', key, 'state', 'cancelled', 'ver', version, 'end', at)
  redis.call('SET', q .. 'r:' .. id, error)
  ended(id, 'cancelled', kept(id, 'cancelled', ARGV[1]), deadline, '1')
  moved('blocked', 'cancelled')
  event(id, version, 'cancelled', '0')
end

local function tell_one(id, parent, state, outcome, error)
  local key = q .. 'j:' .. id
  local job = redis.call('HMGET', key, 'state', 'ver', 'prio', 'alone', 'due', 'deadline', 'orphan', 'virtual')
  if job[1] ~= 'blocked' then return 1 end
  if job[8] then
    count_member(id, key, parent, state)
    return 1
  end
  if redis.call('SISMEMBER', q .. 'dep:' .. id, parent) == 0 then return 1 end
  redis.call('HSET', q .. 'par:' .. id, parent, outcome)
  if state ~= 'succeeded' and job[7] ~= 'r' then
    if job[7] == 'w' and state ~= 'gone' then return 0 end
    cancel(id, key, after(job[2]), job[6], error)
    return 1
  end
  redis.call('SREM', q .. 'dep:' .. id, parent)
  if redis.call('EXISTS', q .. 'dep:' .. id) == 0 then go(id, key, after(job[2]), job[3], job[4], job[5]) end
  return 1
end

-- How far a batch is; it ends with its last member.
local function advance(id)
  local key = q .. 'j:' .. id
  local job = redis.call('HMGET', key, 'ver', 'total', 'm:succeeded', 'm:failed', 'm:cancelled', 'deadline')
  local version, total = after(job[1]), tonumber(job[2])
  local good, failed, cancelled = tonumber(job[3] or 0), tonumber(job[4] or 0), tonumber(job[5] or 0)
  local over = good + failed + cancelled
  local figures = string.format('"total":%d,"succeeded":%d,"failed":%d,"cancelled":%d', total, good, failed, cancelled)
  local progress = string.format('{"stage":"members","percent":%.2f,"counters":{%s}}', 100 * over / total, figures)
  redis.call('SET', q .. 'p:' .. id, '0 ' .. progress)
  if over < total then
    redis.call('HSET', key, 'ver', version)
    event(id, version, 'blocked', '0', progress)
    return
  end
  unblock(id)
  local to, said, lost = 'succeeded', '{' .. figures .. '}', redis.call('GET', q .. 'lost:' .. id)
  if good < total then
    local cause = '{' .. figures .. ',"jobs":[' .. (lost or '') .. ']}'
    to = 'failed'
    said = '{"code":"members_failed","class":"conflict","message":"' .. text(total - good) .. ' of ' .. text(total)
      .. ' jobs did not succeed","retryable":false,"cause":' .. cjson.encode(cause) .. '}'
  end
  redis.call('SET', q .. 'r:' .. id, said)
  redis.call('HSET', key, 'state', to, 'ver', version, 'end', at)
  ended(id, to, kept(id, to, to == 'failed' and ARGV[2] or ARGV[1]), job[6], '1')
  moved('blocked', to)
  event(id, version, to, '0')
end

local place = 3
while place < #ARGV do
  local parent, state, outcome, error = ARGV[place], ARGV[place + 1], ARGV[place + 2], ARGV[place + 3]
  local count = tonumber(ARGV[place + 4])
  for n = place + 5, place + 4 + count do
    answers[#answers + 1] = tell_one(ARGV[n], parent, state, outcome, error)
  end
  place = place + 5 + count
end
for id in pairs(batches) do advance(id) end
commit()
return answers
