-- Look at one entry for somebody who wants to know why; changes nothing.
-- KEYS  1 value, 2 lock, 3 epoch, 4 epoch-lock
-- Returns {value, epoch, life left to the value, until the last writer's deadline, until the
-- lease's, the clock in microseconds}; the three before it in ms, -1 where there is none.
local function last(lock)
  local left = -1
  local fields = redis.call('HGETALL', lock)
  for i = 1, #fields, 2 do
    if string.sub(fields[i], 1, 2) == 'w:' then
      left = math.max(left, tonumber(fields[i + 1]) - now)
    end
  end
  return left
end

local found = redis.call('MGET', KEYS[1], KEYS[3])
local _, till = holder(KEYS[2])
local leased = till > now and till - now or -1
local fenced_for = math.max(last(KEYS[2]), last(KEYS[4]))
if fenced_for <= 0 then
  fenced_for = -1
end
return { found[1], found[2], redis.call('PTTL', KEYS[1]), fenced_for, leased,
  string.format('%.0f', micros) }
