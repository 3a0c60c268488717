-- Stands before every script: the words that they share. Behind it come lanes.lua and ends.lua.
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
local yielded, telling = {}, false

-- The queue of jobs that workers of other systems lease: each names its tenant and its kinds and must find nothing else, so
-- lanes stand in the turns of their tenant and kind (see lanes.lua). For whom there is more to fetch is in `woken`.
local by_kind, woken = meta == '{external}:m', {}

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

-- How many entries the outbox 'wire' holds at most, or false if nobody consumes it: it tells of every transition.
local wired
local function wire()
  if wired == nil then wired = redis.call('HGET', meta, 'wire') end
  return wired
end

-- Whether the queue is steered, and the classes that it has limits for (' host kind ', or false); see lanes.lua.
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
