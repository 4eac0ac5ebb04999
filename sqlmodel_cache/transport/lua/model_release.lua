-- After COMMIT: forget one shard of a model once more and lift one writer's fence.
-- KEYS  1 epoch, 2 epoch-lock
-- ARGV  1 writer
-- Returns 1.
-- The epoch goes again: leases from before the COMMIT die with it, and so does whatever came in
-- if my fence was evicted.
redis.call('DEL', KEYS[1])
redis.call('HDEL', KEYS[2], 'w:' .. ARGV[1])
fenced(KEYS[2])
bury()
return 1
