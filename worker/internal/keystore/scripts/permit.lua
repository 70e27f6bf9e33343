-- permit.lua: another permit for a batch that is bound: the one it had was used, or has passed unused.
--
-- ARGV (after those of 0_base.lua): slot; generation; run; batch; how long the reply is likely to take, microseconds: a permit
-- for an earlier moment would be missed again; how many calls of the batch this run will then have made. Adds to the reply:
-- microseconds until the permit. Status: 'ok', 'stale', 'refused'; 'idle' where no call is to be made now: the app has a long rest before
-- it, or it or the robot is held and this batch is not the probe, or the month's calls are spent. Then nothing was changed: the slot is to
-- be given up.

local s = load_slot(tonumber(ARGV[ARGS + 1]))
if s.state ~= 'running' or s.gen ~= tonumber(ARGV[ARGS + 2]) or s.batch ~= tonumber(ARGV[ARGS + 4]) then return reply('stale') end
if s.run ~= tonumber(ARGV[ARGS + 3]) then return reply('refused') end
if rest_until() > 0 or held_off(s) then return reply('idle') end
local pays = charged(s) < tonumber(ARGV[ARGS + 6]) -- one that was missed is counted already
if pays and not may_call(batch_class(s.keys)) then return reply('idle') end
s.at = permit(tonumber(ARGV[ARGS + 5]))
if pays then charge(s) end
call('HSET', slot_key(s.i), 'at', int(s.at), 'paid', s.paid)
set_calling(s)
return reply('ok', { math.max(0, s.at - now_us) })
