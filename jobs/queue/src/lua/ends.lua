-- Stands in every script, behind lanes.lua: how jobs end, and how a script does.

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

-- A unique job lets its key go ('<s|f><key>': until it starts, until it is over).
local function yield_key(id, unique)
  yielded[#yielded + 1] = q .. 'u:' .. string.sub(unique, 2)
  yielded[#yielded + 1] = string.sub(unique, 1, 1) .. id
end

-- How a job is tied to others: the limits that its run holds, how it is unique, whether jobs wait for it.
local function ties_of(id)
  return redis.call('HMGET', q .. 'j:' .. id, 'lim', 'uniq', 'kin')
end

-- A run gives back what it holds of limits ('<name> …'). A job that is not over does not note it any more.
local function unhold(id, held)
  for name in string.gmatch(held, '%S+') do
    local ids = freed[name]
    if not ids then
      ids = {}
      freed[name] = ids
    end
    ids[#ids + 1] = id
  end
end

-- Ends a job: it is kept until now + keep (ms) in 'done', or in 'dead' if it failed. `deadline` is that of its hash; `ties`
-- too or, if they were read already, what `ties_of` says.
local function ended(id, state, keep, deadline, ties)
  local index = state == 'failed' and finished.dead or finished.done
  if state == 'failed' then moved(nil, 'dead') end -- so many jobs have failed for good so far
  index[#index + 1] = text(now + keep)
  index[#index + 1] = id
  if deadline then redis.call('ZREM', q .. 'expiry', id) end
  if ties then
    if type(ties) == 'string' then ties = ties_of(id) end
    if ties[2] then yield_key(id, ties[2]) end
    if ties[3] then tell(id, state) end
  end
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
  if is_steered() then steering().rouse() end
  return #due
end

-- The whole record of a job that has ended, and whether its kind wants one kept of this end; nothing if it does not and
-- `always` is not said. What has several parts is one text, a part a line: nothing in them has lines, and Redis carries one
-- text sooner than many.
local function record(id, always)
  local job = redis.call('HGETALL', q .. 'j:' .. id)
  local state, history, more
  for n = 1, #job, 2 do
    if job[n] == 'state' then state = job[n + 1]
    elseif job[n] == 'hist' then history = job[n + 1]
    elseif job[n] == 'more' then more = true end
  end
  local wanted = history ~= 'n' and (history ~= 'f' or state == 'failed')
  if not wanted and not always then return end
  local entry = { 'id', id, 'hash', table.concat(job, '\n'), 'envelope', redis.call('GET', q .. 'b:' .. id) or '' }
  if more then
    local said = redis.call('MGET', q .. 'r:' .. id, q .. 'p:' .. id)
    entry[7], entry[8], entry[9], entry[10] = 'outcome', said[1] or '', 'progress', said[2] or ''
    entry[11], entry[12] = 'tries', table.concat(redis.call('LRANGE', q .. 'tries:' .. id, 0, -1), '\n')
  end
  return entry, wanted
end

-- Cuts an outbox that holds more than it may: the oldest go, in whole nodes of the stream, and are counted.
local function cut_outbox(name, most)
  local dropped = redis.call('XTRIM', q .. name, 'MAXLEN', '~', most, 'LIMIT', 1000)
  if dropped > 0 then redis.call('HINCRBY', meta, name .. ':dropped', dropped) end
end

-- Puts the jobs that have ended into the outboxes that somebody consumes: 'out' has those whose kind wants a record of
-- them, 'hooks' and 'wire' have all. Fields of these names say how many entries each holds at most.
local function fill_outboxes()
  local most = redis.call('HMGET', meta, 'out', 'hooks', 'wire')
  local out, hooks = most[1], most[2]
  wired = most[3]
  if not out and not hooks and not wired then return end
  for _, entries in pairs(finished) do
    for n = 2, #entries, 2 do
      local entry, wanted = record(entries[n], hooks or wired)
      if out and wanted then redis.call('XADD', q .. 'out', '*', unpack(entry)) end
      if hooks then redis.call('XADD', q .. 'hooks', '*', unpack(entry)) end
      if wired then redis.call('XADD', q .. 'wire', '*', unpack(entry)) end
    end
  end
  if out then cut_outbox('out', out) end
  if hooks then cut_outbox('hooks', hooks) end
end

-- Puts the other transitions into the outbox 'wire', those of one call into one entry.
local function fill_wire()
  local moves = {}
  for _, line in ipairs(events) do
    local state = string.match(line, '^%S+ %d+ (%l+) %d+$')
    if state and not is_final(state) then moves[#moves + 1] = line end
  end
  if #moves > 0 then redis.call('XADD', q .. 'wire', '*', 'moves', table.concat(moves, '\n')) end
  cut_outbox('wire', wired)
end

-- Lets go of the keys of unique jobs, unless others have them by now.
local function yield_keys()
  local keys, gone = {}, {}
  for n = 1, #yielded, 2 do keys[#keys + 1] = yielded[n] end
  for n, holder in ipairs(redis.call('MGET', unpack(keys))) do
    if holder == yielded[2 * n] then gone[#gone + 1] = keys[n] end
  end
  if #gone > 0 then redis.call('DEL', unpack(gone)) end
end

-- Writes down what was noted. Every script that changes something ends with it.
local function commit()
  if words or next(freed) then steering().commit(freed) end
  if #yielded > 0 then yield_keys() end
  for state, delta in pairs(counts) do
    if delta ~= 0 then redis.call('HINCRBY', meta, 'n:' .. state, delta) end
  end
  for index, entries in pairs(finished) do
    if #entries > 0 then redis.call('ZADD', q .. index, unpack(entries)) end
  end
  if #finished.done > 0 or #finished.dead > 0 then fill_outboxes() end
  if #events > 0 and wire() then fill_wire() end
  if #events > 0 then redis.call('PUBLISH', q .. 'ev', table.concat(events, '\n')) end
  if awake or next(woken) then
    -- Of external jobs: for whom, a tenant and kind a line; an empty one if there may be more for others or later.
    local names = {}
    if awake then names[1] = '' end
    for name in pairs(woken) do names[#names + 1] = name end
    redis.call('PUBLISH', q .. 'wake', table.concat(names, '\n'))
  end
  if telling then redis.call('PUBLISH', q .. 'relay', '') end
end

