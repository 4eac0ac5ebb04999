-- Before COMMIT: forget rows and keep them forgotten while a writer is at work.
-- KEYS  value 1, lock 1, value 2, lock 2, ... (one slot)
-- ARGV  1 writer, 2 duration of the fence (ms), 3 channel to tell of each value, or ''
-- Returns the number of rows.
-- Order: DEL is the first write. A full server (noeviction) lets a script without a shebang go on
-- once it has written, so the HSET behind it passes too; the other way round it would be refused.
-- A set of writers with a deadline each: two transactions may touch one row, and the end of one
-- must not lift the fence of the other.
local duration = tonumber(ARGV[2])
for i = 1, #KEYS, 2 do
  local lock = KEYS[i + 1]
  redis.call('DEL', KEYS[i])
  redis.call('HDEL', lock, 'lease')
  redis.call('HSET', lock, 'w:' .. ARGV[1], deadline(duration))
  outlive(lock, math.max(duration, 1))
  fenced(lock)
  tell(ARGV[3], KEYS[i])
end
bury()
return #KEYS / 2
