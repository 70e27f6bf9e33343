-- spend.lua: a permit for a call that carries no batch, such as readStatus. It is one of the app's, in turn with all others.
--
-- ARGV (after those of 0_base.lua): rest, ms: the last such call was throttled, and says so here, where it is taken off the month again, since the
--   service does not count it; 0 = it was not; how long the reply is likely to take, microseconds. Adds to the reply: microseconds until the permit.
-- Status: 'ok', 'held' (the app rests, or the month's calls are spent: no call).

local rest = tonumber(ARGV[ARGS + 1])
if rest > 0 then
  throttle(rest, now_us)
  local b = month()
  if b.counted and b.used > 0 then use(b, -1) end
end
if meta.held > 0 or not may_call(2) then return reply('held') end -- what is kept for urgent keys is not for this
local s = { at = permit(tonumber(ARGV[ARGS + 2])), paid = '' }
charge(s)
return reply('ok', { math.max(0, s.at - now_us) })
