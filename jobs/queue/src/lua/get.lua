#!lua flags=no-writes
-- Reads jobs, each at one moment.
-- KEYS[1]  {queue}:m
-- ARGV     ids
-- Returns  for each job: fields and values of its hash, envelope, result or error, progress
-- Cost     O(1) a job
local answers = {}
for n = 1, #ARGV do
  local id = ARGV[n]
  answers[n] = {
    redis.call('HGETALL', q .. 'j:' .. id),
    redis.call('GET', q .. 'b:' .. id),
    redis.call('GET', q .. 'r:' .. id),
    redis.call('GET', q .. 'p:' .. id),
  }
end
return answers
