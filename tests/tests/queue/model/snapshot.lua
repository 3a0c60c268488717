-- Every key of this Redis: name, type, remaining life (ms, -1: for ever), contents as one flat list.
local all = {}
for n, key in ipairs(redis.call('KEYS', '*')) do
  local sort = redis.call('TYPE', key).ok
  local contents
  if sort == 'string' then contents = { redis.call('GET', key) }
  elseif sort == 'hash' then contents = redis.call('HGETALL', key)
  elseif sort == 'stream' then
    contents = {}
    for _, entry in ipairs(redis.call('XRANGE', key, '-', '+')) do
      contents[#contents + 1] = table.concat(entry[2], '\0')
    end
  elseif sort == 'set' then contents = redis.call('SMEMBERS', key)
  elseif sort == 'list' then contents = redis.call('LRANGE', key, 0, -1)
  else contents = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES') end
  all[n] = { key, sort, redis.call('PTTL', key), contents }
end
local clock = redis.call('TIME')
return { clock[1] * 1000 + math.floor(clock[2] / 1000), all }
