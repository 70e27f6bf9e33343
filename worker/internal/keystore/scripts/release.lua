-- release.lua: ends the hold of the app, or of a robot, because an operator says that what caused it is mended. Again, it changes nothing.
--
-- Where the month's calls are spent, a release of the app lets them go on beyond the limit until the month turns.
--
-- ARGV (after those of 0_base.lua): robot code, '' = the app. Status 'ok', or 'idle' where it was not held.

promote()
local done
if ARGV[ARGS + 1] == '' then
  done = release()
  if not may_call(2) then
    call('HSET', KEYS[1], 'lifted', 1)
    month().lifted, done = true, true
  end
else
  local rid = call('HGET', P .. 'robot:id', ARGV[ARGS + 1])
  done = rid and release_robot(tonumber(rid))
end
wake()
return reply(done and 'ok' or 'idle')
