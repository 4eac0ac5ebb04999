-- After COMMIT: forget one shard of a model once more and lift one writer's fence.
-- KEYS  1 epoch, 2 epoch-lock
-- ARGV  1 writer, 2 channel to tell of the epoch, or ''
-- Returns 1.
-- The epoch goes again: leases from before the COMMIT die with it, and so does whatever came in
-- if my fence was evicted.
redis.call('DEL', KEYS[1])
redis.call('HDEL', KEYS[2], 'w:' .. ARGV[1])
fenced(KEYS[2])
tell(ARGV[2], KEYS[1])
bury()
return 1
