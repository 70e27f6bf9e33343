-- takeover.lua: the owner of a run is gone, or gives up before it called: the slot is due at its next generation, with
-- its batch still bound.
--
-- ARGV (after those of 0_base.lua): slot; generation; run; how many calls of the batch it has made that the month counts, '' = not
-- known, it may have made all. Status: 'due', 'stale', 'refused'.

promote()
local s = load_slot(tonumber(ARGV[ARGS + 1]))
local status = 'due'
if s.state == 'idle' or s.gen ~= tonumber(ARGV[ARGS + 2]) then
  status = 'stale'
elseif s.run ~= tonumber(ARGV[ARGS + 3]) then
  status = 'refused'
else
  if ARGV[ARGS + 4] ~= '' then
    refund(s, tonumber(ARGV[ARGS + 4]))
    call('HSET', slot_key(s.i), 'paid', s.paid)
  end
  make_due(s)
end
return finish(status)
