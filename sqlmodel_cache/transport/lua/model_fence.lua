-- Before COMMIT: forget one shard of a model, whatever it holds, and let nobody fill it.
-- KEYS  1 epoch, 2 epoch-lock
-- ARGV  1 writer, 2 duration of the fence (ms), 3 channel to tell of the epoch, or ''
-- Returns 1.
-- Order: DEL first, for a full server (see fence.lua). Without the epoch every value of the shard
-- is a miss at once; the writer in the epoch-lock makes `lease` and `fill` refuse until release.
local duration = tonumber(ARGV[2])
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[2], 'w:' .. ARGV[1], deadline(duration))
outlive(KEYS[2], math.max(duration, 1))
fenced(KEYS[2])
tell(ARGV[3], KEYS[1])
bury()
return 1
