-- What `fence` (or `release`) does to the lock alone: a Cluster that is just moving a slot to another
-- node runs no script of two keys, of which each may be on either node.
-- KEYS  1 lock, or epoch-lock
-- ARGV  1 writer, 2 duration of the fence (ms), 0 to lift it, 3 channel to tell of the value, or '',
--       4 the value's key, or the epoch's
-- Returns 1.
-- Order: the one HDEL is the last command. With its last field the lock goes, and where a slot is
-- moving, a script may not touch a key that is gone.
local duration = tonumber(ARGV[2])
local gone = { 'lease' }
if duration > 0 then
  redis.call('HSET', KEYS[1], 'w:' .. ARGV[1], deadline(duration))
  outlive(KEYS[1], duration)
else
  gone[2] = 'w:' .. ARGV[1]
end
fenced(KEYS[1])
for i = 1, #dead do
  gone[#gone + 1] = dead[i][2]
end
redis.call('HDEL', KEYS[1], unpack(gone))
tell(ARGV[3], ARGV[4])
return 1
