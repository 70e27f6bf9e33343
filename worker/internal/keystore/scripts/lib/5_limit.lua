-- The shared rate.
--
-- The app's calls go at a share of its configured rate: 1 until the service says that it is too much. Then the share is halved, comes back
-- within seconds to a little below where it was when that happened, stays about there, and climbs slowly and ever faster, so that a
-- service that allows more again is found out. docs/decisions has the figures; Go's pace.go reads what this writes.

local RATE = {
  floor = 0.05,        -- the least share
  below = 0.97,        -- how far it comes back, where it had climbed since the last cut
  well_below = 0.9,    -- the same where it had not: the limit is lower than was thought
  back = 3,            -- coming back takes so many times the rest,
  most_back = 180000,  -- ms at most
  climb = 60,          -- and climbing as far as it stays below,
  most_climb = 3600000,
  climb_calls = 240,   -- or so many calls, where that takes longer, up to twice as long
  long = 5000,         -- ms: a longer rest is waited out without a slot
  longest = 300000,    -- ms: to which rests grow by themselves
}

-- What the last throttle answer left, nil where there was none: the share at first, the share it comes back to, when that begins (ms) and how long it
-- takes, how long the climb takes, from which permit on (microseconds) a throttle answer is another event, how often in a row the first call
-- after a rest was refused.
local pace = nil
if meta.pace then
  local f = {}
  for n in string.gmatch(meta.pace, '%S+') do f[#f + 1] = tonumber(n) end
  if #f == 7 then pace = { low = f[1], goal = f[2], from = f[3], back = f[4], climb = f[5], fence = f[6], strikes = f[7] } end
end

local function save_pace()
  call('HSET', KEYS[1], 'pace', format('%.4f %.4f %.0f %.0f %.0f %.0f %.0f',
    pace.low, pace.goal, pace.from, pace.back, pace.climb, pace.fence, pace.strikes))
end

local function rate_share()
  if not pace then return 1 end
  local t = now - pace.from
  if t <= 0 then return pace.low end
  if t < pace.back then return pace.low + (pace.goal - pace.low) * t / pace.back end
  local up = (t - pace.back) / pace.climb
  return math.min(1, pace.goal * (1 + (1 - RATE.below) * up * up * up))
end

-- The moment (ms) until which nobody is to take a slot, since no call may be made for long; 0 = there is none.
local function rest_until()
  if pace and pace.from > now + RATE.long then return pace.from - 1000 end
  return 0
end

-- What a reply adds about such a rest.
local function rest_left()
  if rest_until() > 0 then return { math.ceil(pace.from - now) } end
end

-- At a lower rate fewer slots are needed, and more would only hold permits for a time that is far off.
local all_slots = max_slots
local function limit_slots()
  if pace then max_slots = math.max(math.min(all_slots, 2), math.ceil(all_slots * rate_share())) end
end
limit_slots()

-- In whole microseconds, as it is kept: a throttle answer is judged by whether its permit is the one that is first after a rest.
local function set_tat(at)
  meta.tat = floor(at)
  call('HSET', KEYS[1], 'tat', int(at))
end

-- Takes the next permit of the app: the moment (microseconds) at which its call may be made. One call holds one.
local function permit(lead)
  local at = math.max(now_us + (lead or 0), meta.tat) -- also without a rate of ours: a throttle answer is to be waited out
  if interval > 0 then set_tat(at + interval / rate_share()) end
  return at
end

-- Halves the rate, and says how it is to come back. What it takes is in proportion to the rest: a limit per minute shows itself later than one per second.
local function cut(rest)
  local share = rate_share()
  local climbed = not pace or now - pace.from >= pace.back
  local climb = RATE.climb * 1000
  if interval > 0 then climb = math.max(climb, math.min(2 * climb, RATE.climb_calls * interval / share / 1000)) end
  pace = {
    low = math.max(RATE.floor, share / 2), goal = math.max(RATE.floor, share * (climbed and RATE.below or RATE.well_below)), strikes = 0,
    back = math.min(RATE.most_back, RATE.back * rest), climb = math.min(RATE.most_climb, climb * rest / 1000),
  }
end

-- Throttled, in answer to the call that had the permit at: nobody calls for rest ms, and then at half the rate. Calls that had their
-- permits before the last cut are of the same event: they only make the rest longer. Where the first call after a rest is refused, it was
-- too short: the rate is left, and the rest doubles.
local function throttle(rest, at)
  if pace and at < pace.fence then
    rest = math.max(rest, pace.from - now)
  elseif pace and at <= pace.fence + interval / pace.low / 2 then
    pace.strikes = math.min(20, pace.strikes + 1)
    rest = math.max(rest, math.min(RATE.longest, 60 * rest, rest * 2 ^ pace.strikes))
  else
    cut(rest)
  end
  set_tat(math.max(meta.tat, now_us + rest * 1000))
  pace.fence, pace.from = meta.tat, now + rest
  save_pace()
  limit_slots()
end
