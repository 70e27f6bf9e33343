-- Holds and the shared rate.

-- 0: not held. Else the moment from which a probe may go.
local function held_until()
  local v = call('HMGET', KEYS[1], 'hold_code', 'hold_until')
  if not v[1] then return 0 end
  return tonumber(v[2])
end

-- Puts the app at rest. When a probe of a held app fails, the time until the next one doubles, or is what the answer to the
-- probe asks for; calls that were under way when the app was held change nothing.
local function hold(code, message, first)
  local v = call('HMGET', KEYS[1], 'hold_code', 'hold_every', 'hold_probing')
  if v[1] and not v[3] then return end
  local every = first
  if v[1] then every = math.max(first, math.min(probe_max, tonumber(v[2]) * 2)) else call('HSET', KEYS[1], 'hold_since', int(now)) end
  call('HDEL', KEYS[1], 'hold_probing')
  call('HSET', KEYS[1], 'hold_code', code, 'hold_message', message, 'hold_every', int(every), 'hold_until', int(now + every))
end

local function release()
  call('HDEL', KEYS[1], 'hold_code', 'hold_message', 'hold_every', 'hold_until', 'hold_since', 'hold_probing')
end

-- The share of the configured rate that throttle answers have left; it creeps back by 5 % of the whole a second.
local function rate_share()
  local v = call('HMGET', KEYS[1], 'share', 'share_at')
  if not v[1] then return 1 end
  return math.min(1, tonumber(v[1]) + 0.05 * math.max(0, now - tonumber(v[2])) / 1000)
end

-- Takes the next permit of the app: the moment (microseconds) at which its call may be made. One call holds one.
local function permit()
  local tat = tonumber(call('HGET', KEYS[1], 'tat') or 0)
  if interval == 0 then return math.max(now_us, tat) end -- no rate of ours, but a throttle answer is to be waited out
  local at = math.max(now_us, tat)
  call('HSET', KEYS[1], 'tat', int(at + interval / rate_share()))
  return at
end

-- Throttled: nobody calls for rest ms, and then at half the rate. Answers of the same second count once.
local function throttle(rest)
  local last = tonumber(call('HGET', KEYS[1], 'throttled') or 0)
  if now - last >= 1000 then
    call('HSET', KEYS[1], 'share', math.max(0.05, rate_share() / 2), 'share_at', int(now), 'throttled', int(now))
  end
  local tat = tonumber(call('HGET', KEYS[1], 'tat') or 0)
  call('HSET', KEYS[1], 'tat', int(math.max(tat, now_us + rest * 1000)))
end
