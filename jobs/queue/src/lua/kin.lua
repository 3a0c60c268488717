#!lua flags=no-writes
-- Reads which jobs come after others, or are members of a batch.
-- KEYS[1]  {queue}:m
-- ARGV     ids
-- Returns  for each of the first jobs, until they have a thousand: list of full ids, a thousand of each sort at most
-- Cost     O(1) for each that is read
local answers, count = {}, 0
for n, id in ipairs(ARGV) do
  if count >= 1000 then break end
  local kin = redis.call('SRANDMEMBER', q .. 'next:' .. id, 1000)
  if redis.call('HEXISTS', q .. 'j:' .. id, 'virtual') == 1 then
    for _, member in ipairs(redis.call('SRANDMEMBER', q .. 'dep:' .. id, 1000)) do kin[#kin + 1] = member end
    local over = redis.call('HRANDFIELD', q .. 'par:' .. id, 1000)
    for _, member in ipairs(over) do kin[#kin + 1] = member end
  end
  answers[n] = kin
  count = count + #kin
end
return answers
