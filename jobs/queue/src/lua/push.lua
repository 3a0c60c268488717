#!lua
-- Accepts jobs.
-- KEYS[1]  {queue}:m
-- ARGV     for each job: id, envelope, options. Options are '' for a plain job, else JSON:
--          p priority, t not before (ms), x what it is parked for (then t says nothing), i isolated, e endless,
--          d deadline (ms),
--          k idempotency key (hashed), h payload (hashed), l life of the key (ms), o history ('f' of failures, 'n' none,
--          else all), s and f how long to keep it after a success or cancellation and after a failure (ms),
--          g tenant, m limits that it names (' '-separated), u how it is unique and its key ('s<key>' until it starts,
--          'f<key>' until it is over, 't<key>' for v ms),
--          a the jobs that it waits for, y those of them that are over (id, outcome …), r what a failure of theirs does
--          to it ('r' run, 'w' wait, else cancel), b it is the handle of a batch of so many jobs, which 'dep' has
-- States   none -> waiting | scheduled | parked | blocked
-- Returns  the time now (ms); then for each job that was not simply accepted, its place (from 1) and why:
--          '=' this id was accepted before · '=<id>' the key belongs to that equal job ·
--          '!<id>' the key belongs to that other job · '~<id>' that job is the only one of its like ·
--          'full' the queue has reached its limit
-- Cost     O(1) a job, O(log n) with a time, parked or in a lane of its own, O(1) for each job that it waits for
local state = redis.call('HMGET', meta, 'limit', 'n:waiting', 'n:scheduled', 'steer', 'limited', 'wire')
steered, classes, wired = state[4], state[5], state[6]
local left = math.huge
if state[1] then left = state[1] - (state[2] or 0) - (state[3] or 0) end
local plain = { p = 2 }
local answers, lanes = { now }, {}

-- What the hash of a job begins with.
local fields
local function note(field, value)
  fields[#fields + 1] = field
  fields[#fields + 1] = value
end

-- Notes what a job waits for. Should the other jobs never hear of it, the sweep finds it after ten seconds.
local function tie(id, key, options)
  redis.call('HSET', key, 'ties', 1, 'more', 1)
  if options.r then redis.call('HSET', key, 'orphan', options.r) end
  if options.y then redis.call('HSET', q .. 'par:' .. id, unpack(options.y)) end
  if options.a then redis.call('SADD', q .. 'dep:' .. id, unpack(options.a)) end
  if options.b then
    redis.call('HSET', key, 'virtual', 1, 'run', 0, 'total', options.b)
    redis.call('PERSIST', q .. 'dep:' .. id)
  end
  if options.a or options.b then redis.call('ZADD', q .. 'blocked', now + 10000, id) end
end

for n = 1, #ARGV, 3 do
  local id, envelope = ARGV[n], ARGV[n + 1]
  local options = ARGV[n + 2] == '' and plain or cjson.decode(ARGV[n + 2])
  local answer = ''
  if options.k then
    local known = redis.call('GET', q .. 'i:' .. options.k)
    local holder = known and string.sub(known, 1, 36)
    if holder and redis.call('EXISTS', q .. 'b:' .. holder) == 1 then
      answer = (string.sub(known, 37) == options.h and '=' or '!') .. holder
    end
  end
  if answer == '' and options.u then
    local holder = redis.call('GET', q .. 'u:' .. string.sub(options.u, 2))
    local there = holder and (string.sub(holder, 1, 1) == 't' or redis.call('EXISTS', q .. 'b:' .. string.sub(holder, 2)) == 1)
    if there and string.sub(holder, 2) ~= id then
      answer = redis.call('EXISTS', q .. 'b:' .. id) == 1 and '=' or '~' .. string.sub(holder, 2)
    end
  end
  if answer == '' and left < 1 then
    answer = redis.call('EXISTS', q .. 'b:' .. id) == 1 and '=' or 'full'
  end
  if answer == '' and not redis.call('SET', q .. 'b:' .. id, envelope, 'NX') then answer = '=' end
  if answer == '' then
    if options.k then redis.call('SET', q .. 'i:' .. options.k, id .. options.h, 'PX', options.l) end
    local to = (options.t and options.t > now) and 'scheduled' or 'waiting'
    if options.x then to = 'parked' end
    if options.a or options.b then to = 'blocked' end
    if to ~= 'parked' then left = left - 1 end
    local key = q .. 'j:' .. id
    fields = { 'state', to, 'at', at }
    if options.p ~= 2 then note('prio', options.p) end
    if options.i then note('iso', 1) end
    if options.e then note('endless', 1) end
    if options.o then note('hist', options.o) end
    if options.s then
      note('keep:done', options.s)
      note('keep:failed', options.f)
    end
    if options.d then
      note('deadline', options.d)
      redis.call('ZADD', q .. 'expiry', options.d, id)
    end
    if options.g then note('grp', options.g) end
    if options.m then note('keys', options.m) end
    if options.u then
      local like = string.sub(options.u, 2)
      if options.v then
        redis.call('SET', q .. 'u:' .. like, 't' .. id, 'PX', options.v)
      else
        redis.call('SET', q .. 'u:' .. like, string.sub(options.u, 1, 1) .. id)
        note('uniq', options.u)
        note('ties', 1)
      end
    end
    if options.t and (to == 'scheduled' or to == 'blocked') then note('due', options.t) end
    if to == 'parked' then note('reason', options.x) end
    redis.call('HSET', key, unpack(fields))
    if options.g or options.m or options.u or by_kind then steer_on() end
    if options.a or options.y or options.b then tie(id, key, options) end
    if to == 'scheduled' then
      redis.call('ZADD', q .. 'later', options.t, id)
      awake = true -- a worker that sleeps until its next due job may have to wake earlier
    elseif to == 'parked' then
      redis.call('ZADD', q .. 'parked:' .. options.x, at, id)
    elseif to == 'waiting' then
      local lane = options.p .. ' '
      if steered then lane = lane .. steering().lane_of(id, options.g, options.m, envelope) end
      local ids = lanes[lane]
      if not ids then
        ids = {}
        lanes[lane] = ids
      end
      ids[#ids + 1] = id
    end
    moved(nil, to)
    event(id, '1', to, '0')
  else
    answers[#answers + 1] = (n + 2) / 3
    answers[#answers + 1] = answer
  end
end
for lane, ids in pairs(lanes) do
  local priority, name = string.match(lane, '^(%d) (.*)$')
  if steered then
    steering().join(priority, name, ids)
  else
    redis.call('RPUSH', q .. 'w:' .. priority, unpack(ids))
    awake = true
  end
end
commit()
return answers
