-- Give a lease back unused, so that nobody waits for it.
-- KEYS  1 lock
-- ARGV  1 grant
-- Returns 1 given back, 0 it was not mine (any more) and was left alone.
local grant = holder(KEYS[1])
local mine = grant == ARGV[1]
if mine then
  redis.call('HDEL', KEYS[1], 'lease')
end
fenced(KEYS[1])
bury()
return mine and 1 or 0
