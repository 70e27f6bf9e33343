-- verify.lua: writes what the service says of the messages behind dead keys. Only a key that is dead, and died in the batch that
-- was looked at, changes: one that was replayed meanwhile is on its way again. So twice, or late, changes nothing.
--
-- ARGV (after those of 0_base.lua): name of the target; request id; then for each key, at most 200: the key; the batch in which it
--   died; 'r' its message is recalled, 's' it stands.
-- Adds to the reply: for each key 1 where that was written (a dead key became recalled, or certain to stand), 0 where not.

promote()
local rid = tonumber(call('HGET', P .. 'robot:id', ARGV[ARGS + 1]) or 0)
local request, out, batch = ARGV[ARGS + 2], {}, 0

-- One batch number for all of them: what their records say of when and by which call.
local function this_call()
  if batch == 0 then
    batch = next_batch()
    remember_call(batch, request)
  end
  return batch
end

local function dead(k, died_in)
  for _, d in ipairs(call('SMEMBERS', P .. 'days')) do
    local day = tonumber(d)
    local rec = find(day, k, rid)
    local r = rec and parse(rec, day)
    if r and r.state == DEAD and r5(rec, 9) == died_in then return r, day end
  end
end

for i = ARGS + 3, #ARGV, 3 do
  local k, what, done = ARGV[i], ARGV[i + 2], 0
  local r, day = dead(k, tonumber(ARGV[i + 1]))
  if r and what == 'r' then
    r.amb = 0
    write(day, k, rid, record(RECALLED, r, day) .. u5(this_call()))
    count(rid, r.inc, 'd', -1)
    count(rid, r.inc, 'r', 1)
    done = 1
  elseif r and what == 's' and r.amb == 1 then
    r.amb = 0
    write(day, k, rid, record(DEAD, r, day) .. sub(r.rec, 9))
    done = 1
  end
  out[#out + 1] = done
end
return finish('ok', out)
