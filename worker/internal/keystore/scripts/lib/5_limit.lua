-- Holds and the shared rate.

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

-- The share of the configured rate that throttle answers have left; it creeps back by 5 % of the whole a second.
local function rate_share()
  return math.min(1, meta.share + 0.05 * math.max(0, now - meta.share_at) / 1000)
end

local function set_tat(at)
  meta.tat = at
  call('HSET', KEYS[1], 'tat', int(at))
end

-- Takes the next permit of the app: the moment (microseconds) at which its call may be made. One call holds one.
local function permit(lead)
  local at = math.max(now_us + (lead or 0), meta.tat) -- also without a rate of ours: a throttle answer is to be waited out
  if interval > 0 then set_tat(at + interval / rate_share()) end
  return at
end

-- Throttled: nobody calls for rest ms, and then at half the rate. Answers of the same second count once.
local function throttle(rest)
  local last = tonumber(call('HGET', KEYS[1], 'throttled') or 0)
  if now - last >= 1000 then
    meta.share, meta.share_at = math.max(0.05, rate_share() / 2), now
    call('HSET', KEYS[1], 'share', meta.share, 'share_at', int(now), 'throttled', int(now))
  end
  set_tat(math.max(meta.tat, now_us + rest * 1000))
end
