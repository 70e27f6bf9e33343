-- settle.lua: writes what became of a batch, and claims the next one in the same step. Sent again, it changes nothing.
--
-- ARGV (after those of 0_base.lua):
--   1 slot  2 generation  3 run  4 batch
--   5 outcomes, two characters for each bound key in its order: what, and which row of the table below (from '0'):
--     r recalled, d dead (row: code, message, request id of the call that it dies of, '' = this one), w waits again, l waits
--     for later (row: delay in ms), s the same and then is called alone, k stays bound, p the same behind all k; a capital
--     letter says that the key is ambiguous from here on
--   6 attempt counted: 0 or 1      7 request id
--   8 then: claim, call (what stays bound goes on), held (it waits out a backoff), yield; with keys that stay bound claim
--     means call, without any call and held mean claim
--   9 how many of the kept keys the next call takes   10 tries   11 note
--  12 throttled: rest, ms; '' = not      13 hold: code ('' = none)   14 its message   15 its first probe after, ms
--  16 1 = the app may call, as the answer shows: where the call was a probe, that ends the hold
--  17 robot dead: code ('' = not)        18 its message
--  19 1 = the hold may be the robot's own
--  20 how many calls of the batch were made that the month counts
--  21 how many waiting keys of the robot join the next call, where what stays bound leaves room for them; only with call
--  22... the rows, three values each
-- Status: 'stale', 'refused', and else what the slot does now: 'batch', 'idle', 'held', 'due'. While the app has a long rest before it
-- call means held; then the reply adds for how long, ms.

local A = function(i) return ARGV[ARGS + i] end
promote()
local s = load_slot(tonumber(A(1)))
if s.state == 'idle' or s.gen ~= tonumber(A(2)) then
  wake()
  return reply('stale')
end
if s.run ~= tonumber(A(3)) then
  wake()
  return reply('refused')
end
if s.batch ~= tonumber(A(4)) or s.state ~= 'running' then
  wake()
  if s.state == 'running' then return batch_reply(s) end
  return reply(s.state)
end

refund(s, tonumber(A(20)))
local outs, counted, request, mode = A(5), tonumber(A(6)), A(7), A(8)
local kept, parked, back, recalled, settled, tail = packer(), {}, {}, {}, false, u5(s.batch)

local function row(i) local at = 22 + 3 * (byte(outs, 2 * i) - 48) return A(at), A(at + 1), A(at + 2) end

-- Most keys are recalled: their record is the one that they had when they were bound, with another beginning and end; the
-- same one for all keys of a pack.
local made = {}
local function recalled_record(rec, amb, called)
  if made.rec == rec and made.amb == amb and made.called == called then return made.record end
  local flags, ver, att = byte(rec, 1, 3)
  if amb and flags % 2 == 0 then flags = flags + 1 end
  if called then att = math.min(255, att + counted) end
  made = { rec = rec, amb = amb, called = called, record = char(flags + 8 * (RECALLED - WAITING), ver, att) .. sub(rec, 4, 8) .. tail }
  return made.record
end

-- Nearly always all keys of a pack are recalled at once: then one record says so for all of them.
local ALL_RECALLED = string.rep('r0', FULL)

local function recall_pack(at, n, day, rec, id)
  if at + n - 1 > s.cut or sub(outs, 2 * at - 1, 2 * (at + n) - 2) ~= sub(ALL_RECALLED, 1, 2 * n) then return false end
  write_pack(day, id, recalled_record(rec, false, true))
  local inc = r2(rec, 4)
  recalled[inc] = (recalled[inc] or 0) + n
  settled = true
  return true
end

local function recall(i, day, k, rec, amb)
  write(day, k, s.rid, recalled_record(rec, amb, i <= s.cut))
  local inc = r2(rec, 4)
  recalled[inc] = (recalled[inc] or 0) + 1
  settled = true
end

local function apply(i, item)
  local given = sub(outs, 2 * i - 1, 2 * i - 1)
  local what = string.lower(given)
  if i <= s.cut then item.att = math.min(255, item.att + counted) end
  if given ~= what then item.amb = 1 end
  if what == 'd' then
    local code, message, of = row(i)
    if of == '' then of = request end
    die(s.rid, item.day, item.k, item, code, message, of, s.batch)
    settled = true
  elseif what == 'l' or what == 's' then
    if what == 's' then item.solo = 1 end
    defer(s.rid, item, tonumber((row(i))))
  elseif what == 'k' then
    kept.add(item.day, record(WAITING, item, item.day), item.k)
  elseif what == 'p' then
    parked[#parked + 1] = item
  else
    back[#back + 1] = item
  end
end

each_bound(s, function(i, day, k, rec)
  local what = byte(outs, 2 * i - 1)
  if what == 114 or what == 82 then -- r, R
    recall(i, day, k, rec, what == 82)
  else
    apply(i, bound_item_of(day, k, rec))
  end
end, recall_pack)
for _, item in ipairs(parked) do kept.add(item.day, record(WAITING, item, item.day), item.k) end
give_back(s.rid, back)
for inc, n in pairs(recalled) do
  count(s.rid, inc, 'r', n)
  meta.ok_from = floor(s.at / 1000)
  call('HSET', KEYS[1], 'ok_at', int(now), 'ok_rid', s.rid, 'ok_from', int(s.at))
end
if settled then remember_call(s.batch, request) end
if A(17) ~= '' then condemn(s.rid, { code = A(17), request = request, message = A(18) }) end
if A(12) ~= '' then throttle(tonumber(A(12)), s.at) end
if A(13) ~= '' then hold(s, A(13), A(14), tonumber(A(15)), A(19) == '1') end
if A(16) == '1' then answered(s) end

if kept.n == 0 then
  if mode == 'yield' then
    drop_batch(s)
    make_due(s)
    wake()
    return reply('due')
  end
  return go_on(s)
end

-- Takes up to n waiting keys of the robot, in front of what stays bound, into its next call; not while anything is held, when a
-- call is there to see whether it goes.
local function fill(n)
  local from = math.max(kept.n, FULL - n)
  local got = { n = from }
  if from >= FULL or meta.held > 0 or held_robot(s.rid) or dead_robot(s.rid) then return '', 0 end
  for class = 0, 2 do
    if may_call(class) and add_waiting(class, s.rid, 0) > 0 then
      local stop, left = gather(class, s.rid, got, nil, false)
      ready_after_claim(class, s.rid, left)
      if stop or got.n >= FULL then break end
    end
  end
  return table.concat(got), got.n - from
end

local was, fresh, more = s.batch, '', 0
if mode == 'call' and rest_until() == 0 then fresh, more = fill(tonumber(A(21))) end
s.batch, s.keys, s.cut, s.tries, s.note = next_batch(), fresh .. table.concat(kept.packs()), math.max(1, tonumber(A(9)) + more), tonumber(A(10)), A(11)
probe_goes_on(s.rid, was, s.batch)
if mode == 'claim' then mode = 'call' end -- what stays bound comes first
if mode == 'call' and rest_until() > 0 then mode = 'held' end
if mode == 'call' and not may_call(batch_class(s.keys)) then -- the month's calls are spent: they wait with the others
  give_back(s.rid, bound_items(s))
  return go_on(s)
end
if mode == 'call' then
  s.at = permit()
  charge(s)
end
set_batch(s)
if mode == 'held' then set_state(s, 'held') elseif mode == 'yield' then make_due(s) end
wake()
if mode == 'call' then return batch_reply(s) end
return reply(s.state, rest_left())
