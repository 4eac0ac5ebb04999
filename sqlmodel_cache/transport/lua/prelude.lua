-- Put before every script. No KEYS, no ARGV.
-- `now`     milliseconds by the server's own clock: hosts' clocks differ, and this one judges all
-- `fenced`  tells whether a writer in this lock has time left, and remembers those that have not
-- `tell`    says which key other processes must forget; an account that may not is no reason for a
--           fence to fail: their copies end by themselves
-- `bury`    drops the remembered ones; called last, because under OOM a script's first write decides
-- A lock is a hash: `w:<writer>` -> deadline, and `lease` -> `<grant> <deadline>`.
local time = redis.call('TIME')
local micros = time[1] * 1000000 + time[2]
local now = math.floor(micros / 1000)
local dead = {}

local function fenced(lock)
  local fields = redis.call('HGETALL', lock)
  local live = false
  for i = 1, #fields, 2 do
    if string.sub(fields[i], 1, 2) == 'w:' then
      if tonumber(fields[i + 1]) > now then
        live = true
      else
        dead[#dead + 1] = { lock, fields[i] }
      end
    end
  end
  return live
end

local function bury()
  for i = 1, #dead do
    redis.call('HDEL', dead[i][1], dead[i][2])
  end
end

local function tell(channel, key)
  if channel ~= '' then
    redis.pcall('PUBLISH', channel, key)
  end
end

local function deadline(duration)
  return string.format('%.0f', now + duration)
end

-- A lock must outlive the longest of its deadlines, so its expiry never comes nearer.
local function outlive(key, duration)
  if redis.call('PTTL', key) < duration then
    redis.call('PEXPIRE', key, duration)
  end
end

local function holder(lock)
  local lease = redis.call('HGET', lock, 'lease')
  if not lease then
    return nil, 0
  end
  local grant, till = string.match(lease, '^(%S+) (%d+)$')
  return grant, tonumber(till)
end
