#!lua flags=allow-oom
-- Writes the outcomes of runs. Only the holder of the newest run number may: others are refused.
-- KEYS[1]  {queue}:m
-- ARGV     for each run: id, run, outcome, number, said, reason
--            outcome     number                          said                    reason
--            succeeded   keep the job for (ms)           result, or ''
--            failed      keep the job for (ms)           error
--            cancelled   keep the job for (ms)           error
--            retrying    delay (ms)                      error                   keep (ms), if it is cancelled
--            parked      keep (ms), if it is cancelled   error                   what it waits for
--            crashed     delay (ms)                      error                   keep (ms); failed after the third;
--                                                                                no attempt
-- States   running -> succeeded | failed | cancelled | retrying | parked. A run that a caller asked to stop is
--          cancelled unless it has succeeded or failed.
-- Returns  for each run: 1 written, 0 refused
-- Cost     O(log n) a run
local answers, released, tied = {}, {}, false
for n = 1, #ARGV, 6 do
  local id, run, outcome, number, said, reason =
    ARGV[n], ARGV[n + 1], ARGV[n + 2], tonumber(ARGV[n + 3]), ARGV[n + 4], ARGV[n + 5]
  local key = q .. 'j:' .. id
  local job
  if tied then
    job = redis.call('HMGET', key, 'state', 'run', 'ver', 'alone', 'deadline', 'ties', 'lim', 'uniq', 'kin')
  else
    job = redis.call('HMGET', key, 'state', 'run', 'ver', 'alone', 'deadline', 'ties')
  end
  if job[1] ~= 'running' or job[2] ~= run then
    answers[#answers + 1] = 0
  else
    local version, to, keep, past = after(job[3]), outcome, number, {}
    if outcome ~= 'succeeded' then
      past = redis.call('HMGET', key, 'worker', 'start', 'cancel', 'crash', 'att')
      redis.call('RPUSH', q .. 'tries:' .. id, table.concat({ run, past[1], past[2], at, said }, ' '))
      redis.call('LTRIM', q .. 'tries:' .. id, -50, -1)
    end
    if outcome == 'crashed' then
      local crashes = crashed(key, past[4], now - past[2])
      moved(nil, 'crashes') -- so many runs took their process down so far
      redis.call('HSET', key, 'crash', crashes, 'att', past[5] - 1)
      to = crashes >= 3 and 'failed' or 'retrying'
      if to == 'failed' then
        local error = cjson.decode(said)
        error.code, error.retryable = 'crashed', false
        error.message = 'the job took its process down three times; the last time: ' .. error.message
        said = cjson.encode(error)
      end
    end
    if outcome == 'retrying' or outcome == 'crashed' then keep = tonumber(reason) end
    if past[3] and (to == 'retrying' or to == 'parked') then to = 'cancelled' end
    if job[4] then redis.call('HDEL', key, 'alone') end
    local ties = job[6] and (tied and { job[7], job[8], job[9] } or ties_of(id))
    -- Where one job has ties others have them too, and they are read with the rest.
    tied = tied or ties
    if ties and ties[1] then unhold(id, ties[1]) end

    if to == 'retrying' then
      moved(nil, 'retries') -- so many runs are followed by another so far
      redis.call('HSET', key, 'state', to, 'ver', version, 'due', now + number)
      redis.call('ZADD', q .. 'later', now + number, id)
      awake = true
    elseif to == 'parked' then
      redis.call('HSET', key, 'state', to, 'ver', version, 'reason', reason, 'att', past[5] - 1)
      redis.call('ZADD', q .. 'parked:' .. reason, now, id)
    else
      redis.call('HSET', key, 'state', to, 'ver', version, 'end', at)
      ended(id, to, keep, job[5], ties)
    end
    if ties and ties[1] and not is_final(to) then redis.call('HDEL', key, 'lim') end
    if said ~= '' then
      redis.call('SET', q .. 'r:' .. id, said)
      redis.call('HSET', key, 'more', 1)
    elseif run ~= '1' then
      redis.call('DEL', q .. 'r:' .. id) -- the error of an earlier run
    end
    released[#released + 1] = id
    moved('running', to)
    event(id, version, to, run)
    answers[#answers + 1] = 1
  end
end
if #released > 0 then redis.call('ZREM', q .. 'lease', unpack(released)) end
commit()
return answers
