-- takeover.lua: the owner of a run is gone, or gives up before it called: the slot is due at its next generation, with
-- its batch still bound.
--
-- ARGV (after those of 0_base.lua): slot; generation; run. Status: 'due', 'stale', 'refused'.

promote()
local s = load_slot(tonumber(ARGV[ARGS + 1]))
local status = 'due'
if s.state == 'idle' or s.gen ~= tonumber(ARGV[ARGS + 2]) then
  status = 'stale'
elseif s.run ~= tonumber(ARGV[ARGS + 3]) then
  status = 'refused'
else
  make_due(s)
end
wake()
return reply(status)
