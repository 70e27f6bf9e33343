-- The calls of the month.
--
-- A call is counted when its permit is given, in the same script, and taken off again when it turns out that it was not made, or
-- is one that the service does not count. So the count is never behind: what a worker that died may have called stays counted.
--
-- In the app's hash: month (when it began, ms), turns (when the next begins), used (calls), kept and spent (when the
-- reserve and when the limit was reached, ms; absent below them), lifted (an operator let calls go on beyond the limit until the month turns).
--
-- budget ARGV: limit, 0 = none; of it the reserve for urgent keys; when the month began and when it turns, ms, as the worker
-- has worked it out from the time zone; '' = no month is counted.

local SAME_MONTH = 2 * DAY * 1000 -- months of different time zones begin at most 26 hours apart
local month_cache

local function begin_month(b, from, turns)
  b.from, b.turns, b.used, b.lifted = from, turns, 0, false
  call('HDEL', KEYS[1], 'lifted', 'kept', 'spent')
  call('HSET', KEYS[1], 'month', int(from), 'turns', int(turns), 'used', 0)
end

-- A worker whose clock, or whose time zone, is wrong cannot begin a month twice: what it says counts only where Redis's clock is
-- between its two borders, and a month lasts longer than what zones are apart.
local function month()
  if month_cache then return month_cache end
  local limit, reserve, from, turns = string.match(ARGV[10], '^(%d+) (%d+) (%d+) (%d+)$')
  local v = call('HMGET', KEYS[1], 'month', 'turns', 'used', 'lifted')
  local b = { limit = tonumber(limit or 0), reserve = tonumber(reserve or 0), from = tonumber(v[1] or 0), turns = tonumber(v[2] or 0),
    used = tonumber(v[3] or 0), lifted = v[4] == '1', counted = limit ~= nil }
  month_cache = b
  if not limit then return b end
  from, turns = tonumber(from), tonumber(turns)
  if from > now or now >= turns then return b end
  if from - b.from > SAME_MONTH then
    begin_month(b, from, turns)
  elseif b.from - from <= SAME_MONTH and turns ~= b.turns then
    b.turns = turns
    call('HSET', KEYS[1], 'turns', int(turns))
  end
  return b
end

-- Whether keys of a class may be called for this month: those that are not urgent leave the reserve alone.
local function may_call(class)
  local b = month()
  if b.limit == 0 or b.lifted then return true end
  if class == 0 then return b.used < b.limit end
  return b.used < b.limit - b.reserve
end

-- When the month turns, if that is what keys of a class wait for; else 0.
local function month_end(class)
  if may_call(class) then return 0 end
  return math.max(month().turns, now + 1)
end

local function use(b, n)
  b.used = tonumber(call('HINCRBY', KEYS[1], 'used', n))
  if b.limit == 0 then return end
  for field, top in pairs({ kept = b.limit - b.reserve, spent = b.limit }) do
    if b.used >= top then call('HSETNX', KEYS[1], field, int(now)) elseif n < 0 then call('HDEL', KEYS[1], field) end
  end
end

-- Counts the call that the permit of a slot's batch is for, in the month in which it will be made. How many were counted for the
-- batch, and in which month, stands in the slot; whoever calls this saves the slot.
local function charge(s)
  local b = month()
  if not b.counted then return end
  -- Permits are given in the order of their moments: what comes after one of the next month is of that month too.
  if b.turns > 0 and s.at >= b.turns * 1000 then begin_month(b, b.turns, b.turns + 28 * DAY * 1000) end
  local n, from = string.match(s.paid, '^(%d+) (%d+)$')
  n = from == int(b.from) and tonumber(n) or 0
  s.paid = n + 1 .. ' ' .. int(b.from)
  use(b, 1)
end

-- How many calls were counted for the batch of a slot, in this month.
local function charged(s)
  local n, from = string.match(s.paid, '^(%d+) (%d+)$')
  if from ~= int(month().from) then return 0 end
  return tonumber(n)
end

-- Takes off what was counted for the batch of a slot and is not to be: all but so many calls.
local function refund(s, calls)
  local over = charged(s) - calls
  if over > 0 then use(month(), -over) end
  s.paid = ''
end

-- The class that a bound batch is counted by: its first key's, the most urgent. text is the bound keys, in packs.
local function batch_class(text) return floor(byte(text, 6) / 2) % 4 end
