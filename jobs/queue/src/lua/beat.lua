#!lua flags=allow-oom
-- Notes that a worker process lives, forgets those that no longer do, and says what it is to do.
-- KEYS[1]  {queue}:m
-- ARGV     1 worker, 2 after which silence (ms) a process is dead, 3 its own slots ('': as many as before), 4 '1' if it
--          drains, then fields and values that describe it
-- States   none: the runs of a dead process come back when their leases run out
-- Returns  how many slots it has: its share of the queue's slots if they are set, else its own; '1' if it shall drain
-- Cost     O(log n); O(n log n) in the number of processes (1,000 at most) if the queue's slots are set
local worker, workers, draining = ARGV[1], q .. 'workers', q .. 'draining'

-- After a time without Redis nobody is dead before he could say that he lives: the time before the last beat counts.
local before = redis.call('ZSCORE', workers, worker)
local silent = text(math.min(now, (before or now) + 2000) - ARGV[2])
local dead = redis.call('ZRANGE', workers, '-inf', '(' .. silent, 'BYSCORE', 'LIMIT', 0, 1000)
if #dead > 0 then
  redis.call('ZREM', workers, unpack(dead))
  redis.call('SREM', draining, unpack(dead))
  for _, name in ipairs(dead) do redis.call('DEL', q .. 'wk:' .. name) end
end

redis.call('ZADD', workers, at, worker)
if ARGV[4] == '1' then redis.call('SADD', draining, worker) end
local drains = redis.call('SISMEMBER', draining, worker)

-- Every process counts the same shares: who drains has none, and the first have what cannot be divided.
local function share(total)
  if drains == 1 then return 0 end
  local names = redis.call('ZRANGE', workers, 0, 999)
  local leaves = redis.call('SMISMEMBER', draining, unpack(names))
  local first, count = 0, 0
  for n, name in ipairs(names) do
    if leaves[n] == 0 then
      count = count + 1
      if name < worker then first = first + 1 end
    end
  end
  return math.floor(total / count) + (first < total % count and 1 or 0)
end

local total = redis.call('HGET', meta, 'slots')
local key = q .. 'wk:' .. worker
local own = tonumber(ARGV[3]) or tonumber(redis.call('HGET', key, 'slots') or 0)
local slots = total and share(tonumber(total)) or own
redis.call('HSET', key, 'slots', slots, unpack(ARGV, 5))
redis.call('HSETNX', key, 'start', at) -- Who does not know when it started has done so now.
return { slots, drains }
