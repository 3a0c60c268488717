#!lua flags=no-writes
-- Reads limits, and how far they are used.
-- KEYS[1]  {queue}:m
-- ARGV     1 id of a job whose limits are wanted, or '': then 2 … their names
-- Returns  for each: name, jobs at once ('-': any number), rate in words (''; none), how many jobs run under it, how many
--          tokens it has ('': no rate), how many lanes sleep over it, then twenty at most of those jobs
-- Cost     O(1) a limit
local names = {}
local S = steering()
if ARGV[1] ~= '' then
  local job = redis.call('HMGET', q .. 'j:' .. ARGV[1], 'grp', 'keys')
  if is_steered() then
    names = S.limits_of(S.lane_of(ARGV[1], job[1], job[2]))
    if classes and string.find(classes, ' queue ', 1, true) then names[#names + 1] = 'queue' end
  end
else
  for n = 2, #ARGV do names[#names + 1] = ARGV[n] end
end
local answers = {}
for n, name in ipairs(names) do
  local of = S.bound(name) or {}
  local hold = q .. 'hold:' .. name
  answers[n] = {
    name, of.c and text(of.c) or '-', of.said or '',
    redis.call('SCARD', hold), of.r and string.format('%.6f', S.tokens(name, of)) or '',
    redis.call('ZCARD', q .. 'sleep:' .. name), redis.call('SRANDMEMBER', hold, 20),
  }
end
return answers
