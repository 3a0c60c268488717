#!lua flags=no-writes
-- Walks through the lanes, by priority and name, each in the order of its jobs.
-- KEYS[1]  {queue}:m
-- ARGV     1 the lane ('<prio> <lane>') in which to go on, '' from the beginning; 2 the place in it, 3 how many at most
-- Returns  lane ('' at the end) and place with which to go on, then for each entry: id, its lane, its place
-- Cost     O(log n) a lane, a thousand of them at most; O(n) in the place
local first, place, left = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local lanes = { '0 ', '1 ', '2 ', '3 ' }
if is_steered() then
  lanes = redis.call('ZRANGE', q .. 'lanes', first == '' and '-' or '[' .. first, '+', 'BYLEX', 'LIMIT', 0, 1000)
end
local answer = { '', 0 }
for _, lane in ipairs(lanes) do
  if lane >= first then
    if lane ~= first then place = 0 end
    local ids = redis.call('LRANGE', lane_key(string.match(lane, '^(%d) (.*)$')), place, place + left - 1)
    for n, id in ipairs(ids) do
      local last = #answer
      answer[last + 1], answer[last + 2], answer[last + 3] = id, lane, place + n - 1
    end
    left = left - #ids
    answer[1], answer[2] = lane, place + #ids
    if left == 0 then return answer end
  end
end
if #lanes < 1000 then answer[1] = '' end
return answer
