-- Lets ARGV[1] milliseconds pass: moves every time that the queue has noted into the past by as much.
local by = tonumber(ARGV[1])
local function age(key, field)
  local time = redis.call('HGET', key, field)
  if time then redis.call('HSET', key, field, time - by) end
end
for _, key in ipairs(redis.call('KEYS', '*')) do
  local sort, life = redis.call('TYPE', key).ok, redis.call('PTTL', key)
  if string.find(key, ':rate:', 1, true) then age(key, 't') end
  if life > by then redis.call('PEXPIRE', key, life - by)
  elseif life >= 0 then redis.call('DEL', key)
  elseif sort == 'zset' and not string.find(key, ':lanes$') then
    local step = string.find(key, ':sleep:', 1, true) and by * 1000 or by -- Lanes fall asleep at microseconds.
    for _, member in ipairs(redis.call('ZRANGE', key, 0, -1)) do redis.call('ZINCRBY', key, -step, member) end
  elseif sort == 'hash' then
    for _, field in ipairs({ 'due', 'start', 'deadline', 'reclaimed', 'grace' }) do age(key, field) end
  end
end
