-- attach.lua: the first step of every run of a dispatch task. Twice by one delivery: a new run, the old one is fenced off.
--
-- ARGV (after those of 0_base.lua): slot; generation; retry count of the task, as asynq tells it; for how long after its permit a call is left
--   to its run, ms, 0 = not at all.
-- Status: 'stale' (another generation, or nothing owed), 'refused' (a delivery older than one already seen, or of a task that is at work),
--   'batch' (what an earlier run left bound, or newly claimed), 'idle', 'due', 'held' (a batch is bound, and the app has a long
--   rest before it; adds its length, ms).

promote()
local s = load_slot(tonumber(ARGV[ARGS + 1]))
local gen, retry, lease = tonumber(ARGV[ARGS + 2]), tonumber(ARGV[ARGS + 3]), tonumber(ARGV[ARGS + 4])
if s.state == 'idle' or s.gen ~= gen then return finish('stale') end
if retry < s.retry then return finish('refused') end
-- asynq gives a task out again when its lease is over by the clock of whichever worker looks, which may be wrong: then its run is alive and in a
-- call. Who is really gone is taken over, which makes the slot due.
if lease > 0 and retry > s.retry and s.state == 'running' and s.at / 1000 > now - lease then return finish('refused') end
-- Never a number that was given before, also where Redis came back with an older state (a power failure, a failover) and gives batches the
-- numbers once more that it has forgotten: a worker that still has one of those would settle another's keys by it.
s.run, s.retry = math.max(s.run + 1, now), retry
set_state(s, 'running')
if s.batch == 0 then return finish(go_on(s)) end

-- A batch that an earlier run left. While the app or the robot is held, or the month's calls are spent, its keys wait with the others;
-- closed ones die. What that run may have called stays counted.
local kept, cut = packer(), 0
local closed = held_off({ rid = s.rid, batch = -1 }) -- also its probe: whoever made it is gone
  or not may_call(batch_class(s.keys))
local back = {}
for at, item in ipairs(bound_items(s)) do
  if item.deadline * 1000 <= now then
    die(s.rid, item.day, item.k, item, 'window.closed', 'its window closed while it waited for another try', '', no_call())
  elseif closed then
    back[#back + 1] = item
  else
    kept.add(item.day, item.rec, item.k)
    if at <= s.cut then cut = cut + 1 end
  end
end
give_back(s.rid, back)
if kept.n == 0 then
  drop_batch(s)
  return finish(go_on(s))
end
if cut == 0 then cut = kept.n end
s.batch, s.keys, s.cut, s.paid = next_batch(), table.concat(kept.packs()), cut, ''
if rest_until() > 0 then
  set_batch(s)
  set_state(s, 'held')
  return finish('held', rest_left())
end
s.at = permit()
charge(s)
probe(s.rid, s.batch)
set_batch(s)
return finish(with_batch(s))
