#!lua flags=allow-oom
-- Deletes a queue with all its jobs, in steps, for who has said so twice. Meanwhile nothing is fetched or accepted.
-- KEYS[1]  {queue}:m
-- ARGV     1 step, then
--            ask     token, its life (ms): what is to be repeated for the rest to be done
--            begin   token, '1' if also while jobs run
--            sweep   cursor ('0' at first)
--            end     (nothing)
-- States   all -> none
-- Returns  ask: 1; begin: 'begun', 'unasked' (no such token) or 'running'; sweep: the next cursor ('0': the end) and how
--          many keys are gone; end: 1
-- Cost     O(1) a step; a sweep looks at 1,000 keys of whatever queue, and what it deletes is freed in the background
local step, asked = ARGV[1], q .. 'obliterate'
if step == 'ask' then
  redis.call('SET', asked, ARGV[2], 'PX', ARGV[3])
elseif step == 'begin' then
  if redis.call('GET', asked) ~= ARGV[2] then return 'unasked' end
  if ARGV[3] ~= '1' and redis.call('EXISTS', q .. 'lease') == 1 then return 'running' end
  redis.call('HSET', meta, 'paused', 1, 'limit', 0)
  return 'begun'
elseif step == 'sweep' then
  local found = redis.call('SCAN', ARGV[2], 'MATCH', q .. '*', 'COUNT', 1000)
  local gone = {}
  for _, key in ipairs(found[2]) do
    -- The last to go: it says that the queue is closed.
    if key ~= meta then gone[#gone + 1] = key end
  end
  if #gone > 0 then redis.call('UNLINK', unpack(gone)) end
  return { found[1], #gone }
else
  local layout = redis.call('HGET', meta, 'layout')
  redis.call('DEL', meta)
  redis.call('HSET', meta, 'layout', layout)
  redis.call('PUBLISH', q .. 'ctl', 'beat')
end
return 1
