-- Ask for the right to fill one entry.
-- KEYS  1 value, 2 lock, 3 epoch, 4 epoch-lock
-- ARGV  1 token, 2 epoch to mint if there is none of this run, 3 SHA-1 of the rejected value or '',
--       4 duration of the lease (ms), 5 life of the epoch (ms)
-- Returns {0, epoch, grant} granted, {1} leased by another, {2} fenced, {3, value, epoch} a value.
-- Order: a writer in flight beats everything, for it is about to change the row. A value comes
-- next, so that nobody fills what is there.
-- Grant and epoch are made here and have the clock in them: a client that sends this twice, the
-- second time after a writer has passed, must not revive its own dead grant, nor a deleted epoch
-- with all the values under it. The epoch is never a default, or an evicted one would come back.
-- Bytes 9 to 12 of an epoch name the run of the server it was minted in. One of another run came
-- back with an old dump, or with a replica that lagged: it is none. All zero: the run is not known.
-- A full server refuses the first write; then nothing may be filled, which is what 2 says.
local busy = fenced(KEYS[2])
busy = fenced(KEYS[4]) or busy
if busy then
  bury()
  return { 2 }
end

-- MGET takes a key of a foreign type for an absent one where GET would fail
local found = redis.call('MGET', KEYS[1], KEYS[3])
local value, epoch = found[1], found[2]
local run = string.sub(ARGV[2], 9, 12)
if epoch and run ~= '\0\0\0\0' and string.sub(epoch, 9, 12) ~= run then
  epoch = nil
end
if value and epoch and string.sub(value, 3, 14) == epoch and redis.sha1hex(value) ~= ARGV[3] then
  bury()
  return { 3, value, epoch }
end

local grant, till = holder(KEYS[2])
local duration, life = tonumber(ARGV[4]), tonumber(ARGV[5])
if not grant or till <= now then
  grant = ARGV[1] .. ':' .. string.format('%.0f', micros)
  local wrote = redis.pcall('HSET', KEYS[2], 'lease', grant .. ' ' .. deadline(duration))
  if type(wrote) == 'table' and wrote.err then
    bury()
    return { 2 }
  end
  outlive(KEYS[2], math.max(duration, 1))
elseif string.match(grant, '^[^:]+') ~= ARGV[1] then
  bury()
  return { 1 }
end

if not epoch then
  local clock = struct.pack('>I4', micros % 4294967296)
  epoch = string.sub(ARGV[2], 1, 4) .. clock .. string.sub(ARGV[2], 9, 12)
  if redis.pcall('SET', KEYS[3], epoch, 'PX', life).err then
    bury()
    return { 2 }
  end
elseif redis.call('PTTL', KEYS[3]) < life / 2 then
  redis.call('PEXPIRE', KEYS[3], life)
end
bury()
return { 0, epoch, grant }
