-- Stands before every script: the words that they share.
-- KEYS[1] is '{queue}:m'; every other key of the queue is made from its prefix and lies in the same slot.
local meta = KEYS[1]
local q = string.sub(meta, 1, -2)
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

-- Redis writes a number that it is given as text, at length; what goes to it again and again is text already.
local texts = {}
local function text(number)
  local known = texts[number]
  if not known then
    known = string.format('%d', number)
    texts[number] = known
  end
  return known
end
local at = text(now)

local counts, events, finished, freed, awake = {}, {}, { done = {}, dead = {} }, {}, false
local telling = false

-- Notes that a job has gone from one state to another (nil: it was not there).
local function moved(from, to)
  if from then counts[from] = (counts[from] or 0) - 1 end
  if to then counts[to] = (counts[to] or 0) + 1 end
end

-- Notes what to publish of a job: '<id> <version> <state> <run>[ <progress>]'.
local function event(id, version, state, run, progress)
  if progress then run = run .. ' ' .. progress end
  events[#events + 1] = id .. ' ' .. version .. ' ' .. state .. ' ' .. run
end

-- The number of the version after this one. A job that has only been accepted has no 'ver': it is 1.
local function after(version)
  return text((version or 1) + 1)
end

-- Lanes, rings and limits ---------------------------------------------------------------------------------------------
-- A queue is steered (field 'steer') once it has seen a tenant, a limit, a weight, a changed priority or a job that is
-- unique until it starts. Then every lane that has jobs is in 'lanes', and it is either in its tenant's list
-- 'lanes:<prio>:<tenant>', whose tenant is in 'ring:<prio>', or it sleeps in 'sleep:<limit>' because that limit has no
-- room. A limit over which lanes sleep is in 'asleep' with the time when to look at it again.
-- A lane is named '<tenant>' and then ' <limit>' for each limit that binds its jobs; the one of plain jobs is ''.

local steered, classes
local function is_steered()
  if steered == nil then
    local control = redis.call('HMGET', meta, 'steer', 'limited')
    steered, classes = control[1], control[2]
  end
  return steered
end

local function lane_key(priority, lane)
  return q .. 'w:' .. priority .. (lane == '' and '' or ':' .. lane)
end

local function tenant_of(lane)
  return string.match(lane, '^[^ ]*')
end

-- The limits of a lane, as an iterator.
local function limits_of(lane)
  return string.gmatch(lane, ' (%S+)')
end

-- What a limit allows, { c = jobs at once, r = jobs a second, b = burst, said = rate in words }, or false: set for itself or
-- for its class.
local bounds = {}
local function bound(name)
  if bounds[name] == nil then
    local found = redis.call('HMGET', q .. 'limits', name, string.match(name, '^[^/]*') .. '/*')
    local written = found[1] or found[2]
    bounds[name] = false
    if written then
      local c, r, b, said = string.match(written, '^(%S+) (%S+) (%S+) ?(.*)$')
      bounds[name] = { c = tonumber(c), r = tonumber(r), b = tonumber(b), said = said }
    end
  end
  return bounds[name]
end

-- The tokens in a limit's bucket: it is full at first and gets r a second, up to b.
local function tokens(name, of)
  local bucket = redis.call('HMGET', q .. 'rate:' .. name, 'n', 't')
  if not bucket[1] then return of.b end
  return math.min(of.b, bucket[1] + math.max(0, now - bucket[2]) * of.r / 1000)
end

-- How many more jobs a limit lets start now. Asked once a call; `take` counts down from it.
local rooms = {}
local function room(name)
  if not rooms[name] then
    local of, left = bound(name), math.huge
    if of and of.c then left = of.c - redis.call('SCARD', q .. 'hold:' .. name) end
    if of and of.r then left = math.min(left, math.floor(tokens(name, of))) end
    rooms[name] = left
  end
  return rooms[name]
end

-- Counts jobs that start against a limit.
local function take(name, ids)
  local of = bound(name)
  if not of or #ids == 0 then return end
  if of.c then redis.call('SADD', q .. 'hold:' .. name, unpack(ids)) end
  if of.r then
    local rest, key = tokens(name, of) - #ids, q .. 'rate:' .. name
    redis.call('HSET', key, 'n', string.format('%.6f', rest), 't', at)
    redis.call('PEXPIRE', key, math.ceil(of.b / of.r * 1000) + 60000) -- By then it is full again.
  end
  rooms[name] = room(name) - #ids
end

-- Gives back what a run holds of limits; `commit` wakes who waits for it.
local function unhold(id)
  local held = redis.call('HGET', q .. 'j:' .. id, 'lim')
  if not held then return end
  redis.call('HDEL', q .. 'j:' .. id, 'lim')
  for name in string.gmatch(held, '%S+') do
    redis.call('SREM', q .. 'hold:' .. name, id)
    freed[name] = (freed[name] or 0) + 1
  end
end

-- Lets a lane that has jobs take part in the turns.
local function into_ring(priority, lane)
  local tenant = tenant_of(lane)
  if redis.call('RPUSH', q .. 'lanes:' .. priority .. ':' .. tenant, lane) == 1 then
    redis.call('RPUSH', q .. 'ring:' .. priority, tenant)
  end
  awake = true
end

local function is_final(state)
  return state == 'succeeded' or state == 'failed' or state == 'cancelled'
end

-- What others are told that a job has given or why it failed ('': nothing); '-' if that is larger than 64 KiB.
local function handed_on(id)
  if redis.call('STRLEN', q .. 'r:' .. id) > 65536 then return '-' end
  return redis.call('GET', q .. 'r:' .. id) or ''
end

-- Has the jobs that wait for this one told what became of it: those that have not heard yet and, if it has succeeded,
-- those that have heard of a failure and went on waiting. The relay does it, for they may be in other queues.
local function tell(id, state)
  if redis.call('EXISTS', q .. 'kids:' .. id) == 1
    or (state == 'succeeded' and redis.call('EXISTS', q .. 'held:' .. id) == 1) then
    redis.call('ZADD', q .. 'relay', at, id)
    telling = true
  end
end

-- A job that waits for others stops doing so.
local function unblock(id)
  redis.call('ZREM', q .. 'blocked', id)
  redis.call('DEL', q .. 'dep:' .. id)
end

-- Notes when to look again at a limit over which lanes sleep: when it has its next token; a run that ends wakes them
-- anyway, and after a minute all that is looked at once more.
local function look_again(name)
  local of = bound(name)
  local short = of and of.r and 1 - tokens(name, of) or 0
  if short > 0 then
    redis.call('ZADD', q .. 'asleep', now + math.ceil(short / of.r * 1000), name)
  else
    redis.call('ZADD', q .. 'asleep', 'NX', now + 60000, name)
  end
end

-- Takes a lane off its turns until a limit has room. The first to sleep is the first to wake, but a priority counts as
-- fifteen seconds of sleep: so an urgent lane goes before a low one, and not for ever.
local naps = 0
local function sleep(priority, lane, name)
  naps = naps + 1
  local since = clock[1] * 1000000 + clock[2] + naps
  redis.call('ZADD', q .. 'sleep:' .. name, since + priority * 15000000, priority .. ' ' .. lane)
  look_again(name)
end

-- Wakes up to `most` lanes that sleep over a limit, as far as it has room for one job of each.
local function wake(name, most)
  local sleeping = q .. 'sleep:' .. name
  if redis.call('EXISTS', sleeping) == 0 then return end
  local count = math.min(most, room(name), 1000)
  if count >= 1 then
    local woken = redis.call('ZPOPMIN', sleeping, count)
    for n = 1, #woken, 2 do
      into_ring(string.match(woken[n], '^(%d) (.*)$'))
    end
  end
  if redis.call('EXISTS', sleeping) == 1 then look_again(name) end
end

-- Looks at the limits whose time has come.
local function rouse()
  for _, name in ipairs(redis.call('ZRANGE', q .. 'asleep', '-inf', now, 'BYSCORE', 'LIMIT', 0, 100)) do
    redis.call('ZREM', q .. 'asleep', name)
    wake(name, 1000)
  end
end

-- The lane in which a job waits, by its tenant, the limits that it names ('<class>/<value> …') and its kind.
local function lane_of(id, tenant, keys, envelope)
  local lane = tenant or ''
  if not classes then return lane end
  local function bind(class, name)
    if string.find(classes, ' ' .. class .. ' ', 1, true) and bound(name) then lane = lane .. ' ' .. name end
  end
  if tenant then bind('tenant', 'tenant/' .. tenant) end
  if string.find(classes, ' kind ', 1, true) then
    envelope = envelope or redis.call('GET', q .. 'b:' .. id) or ''
    local kind = string.match(envelope, '^{"kind":"([^"]+)"')
    if kind then bind('kind', 'kind/' .. kind) end
  end
  for class, value in string.gmatch(keys or '', '([^ /]+)(/%S+)') do bind(class, class .. value) end
  return lane
end

-- Puts jobs at the end of a lane of a steered queue or, given back, at its front.
local function join(priority, lane, ids, front)
  if redis.call(front and 'LPUSH' or 'RPUSH', lane_key(priority, lane), unpack(ids)) == #ids then
    redis.call('ZADD', q .. 'lanes', 0, priority .. ' ' .. lane)
    into_ring(priority, lane)
  end
  awake = true
end

-- Steers the queue from now on: the lanes of plain jobs take part in the turns.
local function steer_on()
  if is_steered() then return end
  steered = '1'
  redis.call('HSET', meta, 'steer', 1)
  for priority = 0, 3 do
    if redis.call('EXISTS', lane_key(priority, '')) == 1 then
      redis.call('ZADD', q .. 'lanes', 0, priority .. ' ')
      into_ring(priority, '')
    end
  end
end

-- Puts a job at the end (or, given back, at the front) of its lane; a suspect ('alone') among those that run alone.
local function enlane(id, priority, alone, front)
  priority = priority or 2
  if alone or not is_steered() then
    redis.call(front and 'LPUSH' or 'RPUSH', alone and q .. 'suspects' or lane_key(priority, ''), id)
    awake = true
  else
    local job = redis.call('HMGET', q .. 'j:' .. id, 'grp', 'keys')
    join(priority, lane_of(id, job[1], job[2]), { id }, front)
  end
end

-- A unique job lets its key go ('<s|f><key>': until it starts, until it is over).
local function yield_key(id, unique)
  local key = q .. 'u:' .. string.sub(unique, 2)
  if redis.call('GET', key) == string.sub(unique, 1, 1) .. id then redis.call('DEL', key) end
end

-- Undoes what ties a job that is over to others.
local function untie(id, state)
  local unique = redis.call('HGET', q .. 'j:' .. id, 'uniq')
  if unique then yield_key(id, unique) end
  tell(id, state)
end

-- Ends a job: it is kept until now + keep (ms) in 'done', or in 'dead' if it failed. `deadline` and `ties` are those of
-- its hash.
local function ended(id, state, keep, deadline, ties)
  local index = state == 'failed' and finished.dead or finished.done
  index[#index + 1] = text(now + keep)
  index[#index + 1] = id
  if deadline then redis.call('ZREM', q .. 'expiry', id) end
  if ties then untie(id, state) end
end

-- How long (ms) to keep a job that ends without a word of its worker: as its kind says, else `default`.
local function kept(id, state, default)
  return redis.call('HGET', q .. 'j:' .. id, state == 'failed' and 'keep:failed' or 'keep:done') or default
end

-- Forgets a job that is over, with every key of its own ('more' than its hash and its envelope); its index is the
-- caller's. Jobs that wait for it ('ties') are told how it ended, or hear that it is gone: that much is kept for them.
local function forget(id, state, more, ties)
  redis.call('DEL', q .. 'j:' .. id, q .. 'b:' .. id)
  if more then redis.call('DEL', q .. 'r:' .. id, q .. 'p:' .. id, q .. 'tries:' .. id, q .. 'log:' .. id) end
  if ties then
    redis.call('DEL', q .. 'dep:' .. id, q .. 'par:' .. id, q .. 'next:' .. id, q .. 'lost:' .. id)
    if redis.call('EXISTS', q .. 'kids:' .. id, q .. 'held:' .. id) > 0 then
      redis.call('SET', q .. 'over:' .. id, state)
      redis.call('ZADD', q .. 'relay', at, id)
      telling = true
    end
  end
  moved(state, nil)
end

-- Fails a job that has not started before its deadline.
local function expired(id, from, version, run, keep)
  redis.call('HSET', q .. 'j:' .. id, 'state', 'failed', 'ver', version, 'end', at, 'more', 1)
  redis.call('SET', q .. 'r:' .. id, '{"code":"expired","class":"timeout",'
    .. '"message":"the deadline passed before a run could start","retryable":false}')
  ended(id, 'failed', kept(id, 'failed', keep), true, redis.call('HGET', q .. 'j:' .. id, 'ties'))
  moved(from, 'failed')
  event(id, version, 'failed', run)
end

-- The crashes of a job with one more. An endless job begins anew after a run that went well for ten minutes (ms).
local function crashed(key, before, lasted)
  if lasted >= 600000 and redis.call('HEXISTS', key, 'endless') == 1 then return 1 end
  return (before or 0) + 1
end

-- The milliseconds until the next delayed job is due or the next limit over which lanes sleep may have room (-1: never).
local function next_due()
  local head = redis.call('ZRANGE', q .. 'later', 0, 0, 'WITHSCORES')[2]
  local look = is_steered() and redis.call('ZRANGE', q .. 'asleep', 0, 0, 'WITHSCORES')[2]
  if look and (not head or tonumber(look) < tonumber(head)) then head = look end
  return head and math.max(0, head - now) or -1
end

-- Moves up to `limit` jobs whose time has come from 'later' to their lanes, and lets lanes go on whose limit has room
-- again. O(log n) each. Returns how many jobs.
local function promote(limit)
  local due = redis.call('ZRANGE', q .. 'later', '-inf', now, 'BYSCORE', 'LIMIT', 0, limit)
  for _, id in ipairs(due) do
    local key = q .. 'j:' .. id
    local job = redis.call('HMGET', key, 'state', 'ver', 'prio', 'run', 'alone')
    if job[1] == 'scheduled' or job[1] == 'retrying' then
      local version = after(job[2])
      redis.call('HSET', key, 'state', 'waiting', 'ver', version)
      enlane(id, job[3], job[5])
      moved(job[1], 'waiting')
      event(id, version, 'waiting', job[4] or 0)
    end
  end
  if #due > 0 then redis.call('ZREM', q .. 'later', unpack(due)) end
  if is_steered() then rouse() end
  return #due
end

-- Puts the whole record of a job that has ended into the outbox, unless its kind wants none of this end. What has
-- several parts is one text, a part a line: nothing in them has lines, and Redis carries one text sooner than many.
local function record(id)
  local job = redis.call('HGETALL', q .. 'j:' .. id)
  local state, history, more
  for n = 1, #job, 2 do
    if job[n] == 'state' then state = job[n + 1]
    elseif job[n] == 'hist' then history = job[n + 1]
    elseif job[n] == 'more' then more = true end
  end
  if history == 'n' or (history == 'f' and state ~= 'failed') then return end
  local entry = { 'id', id, 'hash', table.concat(job, '\n'), 'envelope', redis.call('GET', q .. 'b:' .. id) or '' }
  if more then
    local said = redis.call('MGET', q .. 'r:' .. id, q .. 'p:' .. id)
    entry[7], entry[8], entry[9], entry[10] = 'outcome', said[1] or '', 'progress', said[2] or ''
    entry[11], entry[12] = 'tries', table.concat(redis.call('LRANGE', q .. 'tries:' .. id, 0, -1), '\n')
  end
  redis.call('XADD', q .. 'out', '*', unpack(entry))
end

-- Records the jobs that have ended if somebody consumes the outbox (field 'out': how many entries it holds at most).
-- The oldest go where it is full, in whole nodes of the stream, and are counted.
local function fill_outbox()
  local most = redis.call('HGET', meta, 'out')
  if not most then return end
  for _, entries in pairs(finished) do
    for n = 2, #entries, 2 do record(entries[n]) end
  end
  local dropped = redis.call('XTRIM', q .. 'out', 'MAXLEN', '~', most, 'LIMIT', 1000)
  if dropped > 0 then redis.call('HINCRBY', meta, 'out:dropped', dropped) end
end

-- Writes down what was noted. Every script that changes something ends with it.
local function commit()
  for name, count in pairs(freed) do wake(name, count) end
  for state, delta in pairs(counts) do
    if delta ~= 0 then redis.call('HINCRBY', meta, 'n:' .. state, delta) end
  end
  for index, entries in pairs(finished) do
    if #entries > 0 then redis.call('ZADD', q .. index, unpack(entries)) end
  end
  if #finished.done > 0 or #finished.dead > 0 then fill_outbox() end
  if #events > 0 then redis.call('PUBLISH', q .. 'ev', table.concat(events, '\n')) end
  if awake then redis.call('PUBLISH', q .. 'wake', '') end
  if telling then redis.call('PUBLISH', q .. 'relay', '') end
end

