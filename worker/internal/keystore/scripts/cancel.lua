-- cancel.lua: nothing more is to be recalled of an incident. Its waiting keys end as cancelled when they are next looked
-- at, without a call; a call in flight is not taken back.
--
-- ARGV (after those of 0_base.lua): incident. Status 'ok', or 'idle' when there is no such incident.

promote()
local inc = call('HGET', P .. 'incident:id', ARGV[ARGS + 1])
if not inc then return finish('idle') end
call('SADD', P .. 'cancelled', inc)
for class = 0, 2 do
  for _, rid in ipairs(call('ZRANGE', READY[class], 0, -1)) do
    if call('HEXISTS', P .. 'count', rid .. ':' .. inc .. ':a') == 1 then
      set_ready(class, rid, now)
    end
  end
end
return finish('ok')
