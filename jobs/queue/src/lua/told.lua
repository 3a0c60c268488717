#!lua flags=allow-oom
-- Notes that jobs have been told what became of one that they waited for.
-- KEYS[1]  {queue}:m
-- ARGV     for each job that is over: id, version that was told ('': it is forgotten), how many; and of each that was
--          told: full id, '1' if it need not hear of it again, '0' if it waits for its success
-- States   any
-- Returns  1 if some wait to be told still, else 0
-- Cost     O(1) for each that was told
local place, more = 1, 0
while place < #ARGV do
  local id, version, count = ARGV[place], ARGV[place + 1], tonumber(ARGV[place + 2])
  local open, held = q .. 'kids:' .. id, q .. 'held:' .. id
  for n = place + 3, place + 2 + 2 * count, 2 do
    local kid = ARGV[n]
    redis.call('SREM', open, kid)
    if ARGV[n + 1] == '1' then redis.call('SREM', held, kid) else redis.call('SADD', held, kid) end
  end
  local job = redis.call('HMGET', q .. 'j:' .. id, 'state', 'ver')
  local as_told = (job[1] and (job[2] or '1') or '') == version
  local waits = redis.call('EXISTS', open) == 1
    or (job[1] ~= 'failed' and job[1] ~= 'cancelled' and redis.call('EXISTS', held) == 1)
  if as_told and not waits then
    redis.call('ZREM', q .. 'relay', id)
    if version == '' then redis.call('DEL', q .. 'over:' .. id) end
  else
    redis.call('ZADD', q .. 'relay', 'XX', at, id)
    more = 1
  end
  place = place + 3 + 2 * count
end
return more
