-- Holds: the app at rest until somebody or some time releases it.

-- Puts the app at rest. When a probe of a held app fails, the time until the next one doubles, or is what the answer to the
-- probe asks for; calls that were under way when the app was held change nothing.
local function hold(code, message, first)
  local v = call('HMGET', KEYS[1], 'hold_code', 'hold_every', 'hold_probing')
  if v[1] and not v[3] then return end
  local every = first
  if v[1] then every = math.max(first, math.min(probe_max, tonumber(v[2]) * 2)) else call('HSET', KEYS[1], 'hold_since', int(now)) end
  meta.held = now + every
  call('HDEL', KEYS[1], 'hold_probing')
  call('HSET', KEYS[1], 'hold_code', code, 'hold_message', message, 'hold_every', int(every), 'hold_until', int(now + every))
end

local function release()
  if meta.held == 0 then return end
  meta.held = 0
  call('HDEL', KEYS[1], 'hold_code', 'hold_message', 'hold_every', 'hold_until', 'hold_since', 'hold_probing')
end
