#!lua
-- Notes members of a batch whose handle is about to be accepted. What is noted goes after a day if it never is.
-- KEYS[1]  {queue}:m
-- ARGV     1 id of the handle, then full ids of members
-- States   none
-- Returns  how many members there are now; 0 if the handle was accepted before
-- Cost     O(1) a member
local members = q .. 'dep:' .. ARGV[1]
if redis.call('EXISTS', q .. 'b:' .. ARGV[1]) == 1 then return 0 end
redis.call('SADD', members, unpack(ARGV, 2))
redis.call('PEXPIRE', members, 86400000)
return redis.call('SCARD', members)
