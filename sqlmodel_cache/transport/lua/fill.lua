-- Store a value, if nothing happened since the lease was granted.
-- KEYS  1 value, 2 lock, 3 epoch, 4 epoch-lock
-- ARGV  1 grant, 2 epoch it came with, 3 envelope, 4 time to live (ms)
-- Returns 1 stored, 0 refused. The lease is given back either way.
-- An absent lock is a refusal: it may have been evicted together with a fence.
-- Order: the value is the first write, so that a full server can refuse it; an epoch must
-- outlive the values under it, or a long TTL would end early.
local grant, till = holder(KEYS[2])
local mine = grant == ARGV[1]
local busy = fenced(KEYS[2])
busy = fenced(KEYS[4]) or busy
local ttl = tonumber(ARGV[4])
local epoch = redis.call('MGET', KEYS[3])[1]
local stored = 0

if mine and till > now and not busy and ttl > 0 and epoch == ARGV[2] then
  local wrote = redis.pcall('SET', KEYS[1], ARGV[3], 'PX', ttl)
  if not wrote.err then
    stored = 1
    outlive(KEYS[3], ttl)
  end
end
if mine then
  redis.call('HDEL', KEYS[2], 'lease')
end
bury()
return stored
