#!lua
-- Appends lines to the logs of jobs. Late lines of a run that is no longer the newest are dropped.
-- KEYS[1]  {queue}:m
-- ARGV     1 how many lines a job keeps; then for each run: id, run, how many lines, and of each line: level, text
-- States   running
-- Returns  for each run: 1 appended, 0 dropped
-- Cost     O(1) a line. A line is '<n> <ms> <run> <level> <text>'; n is counted in the job's hash, so that it never
--          falls, and the list ends with it. It is published with the job's version, which it does not raise.
local answers, place = {}, 2
while place < #ARGV do
  local id, run, count = ARGV[place], ARGV[place + 1], tonumber(ARGV[place + 2])
  local key = q .. 'j:' .. id
  local job = redis.call('HMGET', key, 'state', 'run', 'ver', 'log')
  if job[1] == 'running' and job[2] == run then
    local number, lines = tonumber(job[4] or 0), {}
    for n = 1, count do
      number = number + 1
      local rest = at .. ' ' .. run .. ' ' .. ARGV[place + 1 + 2 * n] .. ' ' .. ARGV[place + 2 + 2 * n]
      lines[n] = number .. ' ' .. rest
      event(id, job[3], 'log', number, rest)
    end
    redis.call('RPUSH', q .. 'log:' .. id, unpack(lines))
    redis.call('LTRIM', q .. 'log:' .. id, -ARGV[1], -1)
    redis.call('HSET', key, 'log', number, 'more', 1)
    answers[#answers + 1] = 1
  else
    answers[#answers + 1] = 0
  end
  place = place + 3 + 2 * count
end
commit()
return answers
