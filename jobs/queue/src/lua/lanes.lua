-- Stands in every script, behind lib.lua: lanes, rings and limits.
-- A queue is steered (field 'steer') once it has seen a tenant, a limit, a weight, a changed priority or a unique job.
-- Then every lane that has jobs is in 'lanes', and it is either in its tenant's list 'lanes:<prio>:<tenant>', whose tenant
-- is in 'ring:<prio>', or it sleeps in 'sleep:<limit>' because that limit has no room. A limit over which lanes sleep is in
-- 'asleep' with the time when to look at it again.
-- A lane is named '<tenant>' and then ' <limit>' for each limit that binds its jobs; the one of plain jobs is ''.
-- In the queue of external jobs every lane is of one kind, '<tenant> kind/<kind> …', and what stands in for the tenant is
-- '<tenant> kind/<kind>': its lanes are in 'lanes:<prio>:<tenant> kind/<kind>', to which no ring leads. Suspects have a lane
-- of their own there, whose name holds ' !alone'.

-- The words of a steered queue. They are made when they are first needed: a queue that is not does without.
local words
local function steering()
  if words then return words end
  words = {}


  -- What a limit allows, { c = jobs at once, r = jobs a second, b = burst, said = rate in words }, or false: set for itself
  -- or for its class.
  local bounds = {}
  function words.bound(name)
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

  -- The limits of a lane, and those of them that count what runs (' '-separated; nil: none does).
  local lanes = {}
  function words.limits_of(lane)
    if not lanes[lane] then
      local names, counting = {}, nil
      for name in string.gmatch(lane, ' (%S+)') do
        -- Where the name of a lane says more than its limits, what binds nothing is none.
        if not by_kind or words.bound(name) then names[#names + 1] = name end
        if (words.bound(name) or {}).c then counting = (counting and counting .. ' ' or '') .. name end
      end
      lanes[lane] = { names = names, counting = counting }
    end
    return lanes[lane].names, lanes[lane].counting
  end

  -- The tokens in a limit's bucket: it is full at first and gets r a second, up to b.
  function words.tokens(name, of)
    local bucket = redis.call('HMGET', q .. 'rate:' .. name, 'n', 't')
    if not bucket[1] then return of.b end
    return math.min(of.b, bucket[1] + math.max(0, now - bucket[2]) * of.r / 1000)
  end

  -- How many more jobs a limit lets start now. Asked once a call; `take` counts down from it.
  local rooms, taken = {}, {}
  function words.room(name)
    if not rooms[name] then
      local of, left = words.bound(name), math.huge
      if of and of.c then left = of.c - redis.call('SCARD', q .. 'hold:' .. name) end
      if of and of.r then left = math.min(left, math.floor(words.tokens(name, of))) end
      rooms[name] = left
    end
    return rooms[name]
  end

  -- Counts jobs that start against a limit.
  function words.take(name, ids)
    local of = words.bound(name)
    if not of or #ids == 0 then return end
    rooms[name] = words.room(name) - #ids
    local all = taken[name]
    if not all then
      all = {}
      taken[name] = all
    end
    for _, id in ipairs(ids) do all[#all + 1] = id end
  end

  -- Whose turn a lane takes part in: its tenant, or its tenant and kind.
  function words.owner(lane)
    return string.match(lane, by_kind and '^[^ ]* %S+' or '^[^ ]*')
  end

  -- Notes that there is something to fetch in a lane.
  local function wake_for(lane)
    if by_kind then woken[words.owner(lane)] = true else awake = true end
  end

  -- Lets a lane that has jobs take part in the turns.
  local function into_ring(priority, lane)
    local owner = words.owner(lane)
    if redis.call('RPUSH', q .. 'lanes:' .. priority .. ':' .. owner, lane) == 1 and not by_kind then
      redis.call('RPUSH', q .. 'ring:' .. priority, owner)
    end
    wake_for(lane)
  end

  -- Notes when to look again at a limit over which lanes sleep: when it has its next token; a run that ends wakes them
  -- anyway, and after a minute all that is looked at once more.
  function words.look_again(name)
    local of = words.bound(name)
    local short = of and of.r and 1 - words.tokens(name, of) + #(taken[name] or {}) or 0
    if short > 0 then
      redis.call('ZADD', q .. 'asleep', now + math.ceil(short / of.r * 1000), name)
    else
      redis.call('ZADD', q .. 'asleep', 'NX', now + 60000, name)
    end
  end

  -- How many lanes sleep over a limit. Asked once a call.
  local sleepers, noted = {}, {}
  local function asleep(name)
    if not sleepers[name] then sleepers[name] = redis.call('ZCARD', q .. 'sleep:' .. name) end
    return sleepers[name]
  end

  -- Takes a lane off its turns until a limit has room. The first to sleep is the first to wake, but a priority counts as
  -- fifteen seconds of sleep: so an urgent lane goes before a low one, and not for ever.
  local naps = 0
  function words.sleep(priority, lane, name)
    sleepers[name] = asleep(name) + 1
    naps = naps + 1
    local since = clock[1] * 1000000 + clock[2] + naps
    redis.call('ZADD', q .. 'sleep:' .. name, since + priority * 15000000, priority .. ' ' .. lane)
    noted[name] = true
  end

  -- Wakes up to `most` lanes that sleep over a limit, as far as it has room for one job of each.
  function words.wake(name, most)
    if asleep(name) == 0 then return end
    local count = math.min(most, words.room(name), 1000)
    if count >= 1 then
      local woken = redis.call('ZPOPMIN', q .. 'sleep:' .. name, count)
      for n = 1, #woken, 2 do
        into_ring(string.match(woken[n], '^(%d) (.*)$'))
      end
      sleepers[name] = sleepers[name] - #woken / 2
    end
    if sleepers[name] > 0 then
      noted[name] = true
    else
      noted[name] = nil
      redis.call('ZREM', q .. 'asleep', name)
    end
  end

  -- Looks at the limits whose time has come.
  function words.rouse()
    for _, name in ipairs(redis.call('ZRANGE', q .. 'asleep', '-inf', now, 'BYSCORE', 'LIMIT', 0, 100)) do
      redis.call('ZREM', q .. 'asleep', name)
      words.wake(name, 1000)
    end
  end

  -- The lane in which a job waits, by its tenant, the limits that it names ('<class>/<value> …') and its kind.
  local known = {}
  function words.lane_of(id, tenant, keys, envelope)
    local lane = tenant or ''
    if by_kind then
      -- A job that is being pushed, whose envelope is at hand, is no suspect.
      local suspect = not envelope and redis.call('HEXISTS', q .. 'j:' .. id, 'alone') == 1
      envelope = envelope or redis.call('GET', q .. 'b:' .. id) or ''
      lane = lane .. ' kind/' .. (string.match(envelope, '^{"kind":"([^"]+)"') or '?')
      if suspect then lane = lane .. ' !alone' end
    end
    if not classes then return lane end
    local function bind(class, name)
      if string.find(classes, ' ' .. class .. ' ', 1, true) and words.bound(name) then lane = lane .. ' ' .. name end
    end
    local of_kind = not by_kind and string.find(classes, ' kind ', 1, true)
    local asked = not of_kind and lane .. ' ' .. (keys or '')
    if asked and known[asked] then return known[asked] end
    if tenant then bind('tenant', 'tenant/' .. tenant) end
    if of_kind then
      envelope = envelope or redis.call('GET', q .. 'b:' .. id) or ''
      local kind = string.match(envelope, '^{"kind":"([^"]+)"')
      if kind then bind('kind', 'kind/' .. kind) end
    end
    for class, value in string.gmatch(keys or '', '([^ /]+)(/%S+)') do bind(class, class .. value) end
    if asked then known[asked] = lane end
    return lane
  end

  -- Puts jobs at the end of a lane or, given back, at its front.
  function words.join(priority, lane, ids, front)
    if redis.call(front and 'LPUSH' or 'RPUSH', lane_key(priority, lane), unpack(ids)) == #ids then
      redis.call('ZADD', q .. 'lanes', 0, priority .. ' ' .. lane)
      into_ring(priority, lane)
    end
    wake_for(lane)
  end

  -- Steers the queue from now on: the lanes of plain jobs take part in the turns.
  function words.start()
    steered = '1'
    redis.call('HSET', meta, 'steer', 1)
    for priority = 0, 3 do
      if redis.call('EXISTS', lane_key(priority, '')) == 1 then
        redis.call('ZADD', q .. 'lanes', 0, priority .. ' ')
        into_ring(priority, '')
      end
    end
  end

  -- Writes down what was counted, and what runs have given back ({ limit = ids }).
  function words.commit(given)
    for name, ids in pairs(given) do redis.call('SREM', q .. 'hold:' .. name, unpack(ids)) end
    for name, ids in pairs(given) do words.wake(name, #ids) end
    for name in pairs(noted) do words.look_again(name) end
    for name, ids in pairs(taken) do
      local of = words.bound(name)
      if of.c then redis.call('SADD', q .. 'hold:' .. name, unpack(ids)) end
      if of.r then
        local rest, key = words.tokens(name, of) - #ids, q .. 'rate:' .. name
        redis.call('HSET', key, 'n', string.format('%.6f', rest), 't', at)
        redis.call('PEXPIRE', key, math.ceil(of.b / of.r * 1000) + 60000) -- By then it is full again.
      end
    end
    noted, taken = {}, {}
  end

  return words
end

-- Steers the queue from now on, if it is not yet.
local function steer_on()
  if not is_steered() then steering().start() end
end

-- Puts a job at the end (or, given back, at the front) of its lane; a suspect ('alone') among those that run alone.
local function enlane(id, priority, alone, front)
  priority = priority or 2
  if (alone and not by_kind) or not is_steered() then
    redis.call(front and 'LPUSH' or 'RPUSH', alone and q .. 'suspects' or lane_key(priority, ''), id)
    awake = true
  else
    local job = redis.call('HMGET', q .. 'j:' .. id, 'grp', 'keys')
    steering().join(priority, steering().lane_of(id, job[1], job[2]), { id }, front)
  end
end

