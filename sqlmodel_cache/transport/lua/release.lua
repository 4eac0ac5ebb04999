-- After COMMIT: forget the rows once more and lift one writer's fence.
-- KEYS  value 1, lock 1, value 2, lock 2, ... (one slot)
-- ARGV  1 writer, 2 channel to tell of each value, or ''
-- Returns the number of rows.
-- Value and lease go unconditionally: had my fence been evicted meanwhile, a reader may have
-- filled, or be about to fill, what it read before the COMMIT.
for i = 1, #KEYS, 2 do
  local lock = KEYS[i + 1]
  redis.call('DEL', KEYS[i])
  redis.call('HDEL', lock, 'lease', 'w:' .. ARGV[1])
  fenced(lock)
  tell(ARGV[2], KEYS[i])
end
bury()
return #KEYS / 2
