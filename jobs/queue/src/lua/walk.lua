#!lua flags=no-writes
-- Walks through the jobs of an index, in an order that stays as it is while jobs leave it.
-- KEYS[1]  {queue}:m
-- ARGV     1 index, 2 its order: 'up' or 'down' a sorted set, 'list', or 'lanes' (all of them, by priority and name);
--          3 how many at most; then the entry after which to go on ('' each: from the beginning): 4 its time or its place in
--          its list, 5 its id, 6 its lane
-- Returns  the time now (ms), 1 if there may be more, else 0; then for each entry: id, time or place, lane
-- Cost     O(log n) to find the place in a sorted set, whose entry may have gone; O(n) in the place in a list; O(log n) a
--          lane, a thousand of them at most; O(1) an entry
local index, order, left = q .. ARGV[1], ARGV[2], tonumber(ARGV[3])
local at, id, lane = ARGV[4], ARGV[5], ARGV[6]
local answer = { now, 0 }

local function add(found, place, of)
  local last = #answer
  answer[last + 1], answer[last + 2], answer[last + 3] = found, place, of
end

-- How many entries of the sorted set come before the one after which to go on (upwards: and it, if it is there).
local function passed()
  local low = redis.call('ZCOUNT', index, '-inf', '(' .. at)
  local high = low + redis.call('ZCOUNT', index, at, at)
  -- Entries of one time are in the order of their ids.
  while low < high do
    local middle = math.floor((low + high) / 2)
    local other = redis.call('ZRANGE', index, middle, middle)[1]
    if other < id or (order == 'up' and other == id) then low = middle + 1 else high = middle end
  end
  return low
end

local function walk_up()
  local start = at == '' and 0 or passed()
  local found = redis.call('ZRANGE', index, start, start + left - 1, 'WITHSCORES')
  for n = 1, #found, 2 do add(found[n], found[n + 1], '') end
  left = left - #found / 2
end

local function walk_down()
  local stop = at == '' and redis.call('ZCARD', index) or passed()
  if stop == 0 then return end
  local found = redis.call('ZRANGE', index, math.max(0, stop - left), stop - 1, 'WITHSCORES')
  for n = #found - 1, 1, -2 do add(found[n], found[n + 1], '') end
  left = left - #found / 2
end

-- Where to go on in a list. It loses entries at its front only: what was before the entry may have gone, and if it has gone
-- itself, so has all that was before it.
local function place_in(list)
  local place = tonumber(at)
  local first = math.max(0, place - 999)
  local near = redis.call('LRANGE', list, first, place)
  for n = #near, 1, -1 do
    if near[n] == id then return first + n end
  end
  local found = redis.call('LPOS', list, id)
  return found and found + 1 or 0
end

local function walk_list(list, start, name)
  local ids = redis.call('LRANGE', list, start, start + left - 1)
  for n, found in ipairs(ids) do add(found, start + n - 1, name) end
  left = left - #ids
end

local lanes = {}
if order == 'up' then
  walk_up()
elseif order == 'down' then
  walk_down()
elseif order == 'list' then
  walk_list(index, at == '' and 0 or place_in(index), '')
else
  lanes = { '0 ', '1 ', '2 ', '3 ' }
  if is_steered() then
    lanes = redis.call('ZRANGE', q .. 'lanes', at == '' and '-' or '[' .. lane, '+', 'BYLEX', 'LIMIT', 0, 1000)
  end
  for _, name in ipairs(lanes) do
    if left > 0 and name >= lane then
      local list = lane_key(string.match(name, '^(%d) (.*)$'))
      walk_list(list, at ~= '' and name == lane and place_in(list) or 0, name)
    end
  end
end
if left == 0 or #lanes == 1000 then answer[2] = 1 end
return answer
