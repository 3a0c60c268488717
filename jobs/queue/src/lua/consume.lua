#!lua flags=allow-oom
-- Opens an outbox for its consumer: from now on the jobs that end are put into it. Or closes it, with what is in it.
-- KEYS[1]  {queue}:m
-- ARGV     1 outbox ('out', 'hooks', 'wire'), 2 how many entries it holds at most, '' to close it
-- Returns  1
-- Cost     O(1); what is closed is freed in the background
local outbox = ARGV[1]
if ARGV[2] == '' then
  redis.call('HDEL', meta, outbox, outbox .. ':dropped')
  redis.call('UNLINK', q .. outbox)
else
  redis.call('HSET', meta, outbox, ARGV[2])
  -- The group may be there. All outboxes call it the same.
  redis.pcall('XGROUP', 'CREATE', q .. outbox, 'history', '0', 'MKSTREAM')
end
return 1
