-- release.lua: ends the hold of the app, or of a robot, because an operator says that what caused it is mended. Again, it changes nothing.
--
-- Where the month's calls are spent, a release of the app lets them go on beyond the limit until the month turns.
--
-- ARGV (after those of 0_base.lua): robot code, '' = the app. Status 'ok', or 'idle' where it was not held.

-- Whether the month's calls are what keeps keys waiting. Whoever releases may not have the app's settings: then what its workers told counts.
local function budget_keeps()
  local b = month()
  if not b.counted then
    local v = call('HMGET', P .. 'settings', 'calls', 'reserve')
    b.limit, b.reserve = tonumber(v[1] or 0), tonumber(v[2] or 0)
  end
  return now < b.turns and not may_call(2)
end

promote()
local done
if ARGV[ARGS + 1] == '' then
  done = release()
  if budget_keeps() then
    call('HSET', KEYS[1], 'lifted', 1)
    month().lifted, done = true, true
  end
else
  local rid = call('HGET', P .. 'robot:id', ARGV[ARGS + 1])
  done = rid and release_robot(tonumber(rid))
end
return finish(done and 'ok' or 'idle')
