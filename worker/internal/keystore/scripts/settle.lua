-- settle.lua: writes what became of batches, and for each claims the next one in the same step. Sent again, it changes nothing.
-- Batches whose calls end at about the same time are settled together, one after the other: what a script costs before its first step is
-- then spent once.
--
-- ARGV (after those of 0_base.lua), for each batch one after the other, in front of each how many they are:
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
-- Status: 'settled'; adds for each batch what became of its slot: 'stale', 'refused', and else what it does now: 'batch', 'idle', 'held', 'due',
-- with what these add; and 'error' with its text. While the app has a long rest before it call means held; then it adds for how long, ms.

-- Nearly always all keys of a pack are recalled at once: then one record says so for all of them.
local ALL_RECALLED = string.rep('r0', FULL)

-- A settlement: the slot, what its arguments say, and the keys by what becomes of them.
local function settlement(s, arg)
  return { s = s, arg = arg, tail = u5(s.batch), outs = arg(5), counted = tonumber(arg(6)), request = arg(7), mode = arg(8),
    kept = packer(), parked = {}, back = {}, recalled = {}, settled = false, made = {} }
end

-- Most keys are recalled: their record is the one that they had when they were bound, with another beginning and end; the
-- same one for all keys of a pack.
local function recalled_record(t, rec, amb, called)
  local made = t.made
  if made.rec == rec and made.amb == amb and made.called == called then return made.record end
  local flags, ver, att = byte(rec, 1, 3)
  if amb and flags % 2 == 0 then flags = flags + 1 end
  if called then att = math.min(255, att + t.counted) end
  made = { rec = rec, amb = amb, called = called, record = char(flags + 8 * (RECALLED - WAITING), ver, att) .. sub(rec, 4, 8) .. t.tail }
  t.made = made
  return made.record
end

local function note_recalled(t, rec, n)
  local inc = r2(rec, 4)
  t.recalled[inc] = (t.recalled[inc] or 0) + n
  t.settled = true
end

local function recall_pack(t, at, n, day, rec, id)
  if at + n - 1 > t.s.cut or sub(t.outs, 2 * at - 1, 2 * (at + n) - 2) ~= sub(ALL_RECALLED, 1, 2 * n) then return false end
  write_pack(day, id, recalled_record(t, rec, false, true))
  note_recalled(t, rec, n)
  return true
end

local function recall(t, i, day, k, rec, amb)
  write(day, k, t.s.rid, recalled_record(t, rec, amb, i <= t.s.cut))
  note_recalled(t, rec, 1)
end

-- What the table says that follows the other arguments, for the key at i.
local function row(t, i)
  local at = 22 + 3 * (byte(t.outs, 2 * i) - 48)
  return t.arg(at), t.arg(at + 1), t.arg(at + 2)
end

local function apply(t, i, item)
  local given, rid = sub(t.outs, 2 * i - 1, 2 * i - 1), t.s.rid
  local what = string.lower(given)
  if i <= t.s.cut then item.att = math.min(255, item.att + t.counted) end
  if given ~= what then item.amb = 1 end
  if what == 'd' then
    local code, message, of = row(t, i)
    if of == '' then of = t.request end
    die(rid, item.day, item.k, item, code, message, of, t.s.batch)
    t.settled = true
  elseif what == 'l' or what == 's' then
    if what == 's' then item.solo = 1 end
    defer(rid, item, tonumber((row(t, i))))
  elseif what == 'k' then
    t.kept.add(item.day, record(WAITING, item, item.day), item.k)
  elseif what == 'p' then
    t.parked[#t.parked + 1] = item
  else
    t.back[#t.back + 1] = item
  end
end

local function apply_all(t)
  each_bound(t.s, function(i, day, k, rec)
    local what = byte(t.outs, 2 * i - 1)
    if what == 114 or what == 82 then -- r, R
      recall(t, i, day, k, rec, what == 82)
    else
      apply(t, i, bound_item_of(day, k, rec))
    end
  end, function(at, n, day, rec, id) return recall_pack(t, at, n, day, rec, id) end)
  for _, item in ipairs(t.parked) do t.kept.add(item.day, record(WAITING, item, item.day), item.k) end
  give_back(t.s.rid, t.back)
end

-- Writes what the call tells of its robot and its app.
local function learn(t)
  local s, arg = t.s, t.arg
  for inc, n in pairs(t.recalled) do
    count(s.rid, inc, 'r', n)
    meta.ok_from = floor(s.at / 1000)
    call('HSET', KEYS[1], 'ok_at', int(now), 'ok_rid', s.rid, 'ok_from', int(s.at))
  end
  if t.settled then remember_call(s.batch, t.request) end
  if arg(17) ~= '' then condemn(s.rid, { code = arg(17), request = t.request, message = arg(18) }) end
  if arg(12) ~= '' then throttle(tonumber(arg(12)), s.at) end
  if arg(13) ~= '' then hold(s, arg(13), arg(14), tonumber(arg(15)), arg(19) == '1') end
  if arg(16) == '1' then answered(s) end
end

-- Takes up to n waiting keys of the robot, in front of what stays bound, into its next call; not while anything is held, when a
-- call is there to see whether it goes.
local function fill(t, n)
  local rid, from = t.s.rid, math.max(t.kept.n, FULL - n)
  local got = { n = from }
  if from >= FULL or meta.held > 0 or held_robot(rid) or dead_robot(rid) then return '', 0 end
  for class = 0, 2 do
    if may_call(class) and add_waiting(class, rid, 0) > 0 then
      local stop, left = gather(class, rid, got, nil, false)
      ready_after_claim(class, rid, left)
      if stop or got.n >= FULL then break end
    end
  end
  return table.concat(got), got.n - from
end

-- Binds what stays bound anew, for its next call or to wait for it.
local function keep(t)
  local s, arg, mode = t.s, t.arg, t.mode
  local was, fresh, more = s.batch, '', 0
  if mode == 'call' and rest_until() == 0 then fresh, more = fill(t, tonumber(arg(21))) end
  s.batch, s.keys, s.cut, s.tries, s.note = next_batch(), fresh .. table.concat(t.kept.packs()), math.max(1, tonumber(arg(9)) + more), tonumber(arg(10)), arg(11)
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
  if mode == 'call' then return with_batch(s) end
  if mode == 'held' then set_state(s, 'held') else make_due(s) end
  return s.state, rest_left()
end

-- Settles one batch. Returns what its slot does now, and what the reply adds of it.
local function settle(arg)
  local s = load_slot(tonumber(arg(1)))
  if s.state == 'idle' or s.gen ~= tonumber(arg(2)) then return 'stale' end
  if s.run ~= tonumber(arg(3)) then return 'refused' end
  if s.state ~= 'running' then return s.state end
  if s.batch ~= tonumber(arg(4)) then return with_batch(s) end
  local t = settlement(s, arg)
  refund(s, tonumber(arg(20)))
  apply_all(t)
  learn(t)
  if t.kept.n > 0 then return keep(t) end
  if t.mode ~= 'yield' then return go_on(s) end
  drop_batch(s)
  make_due(s)
  return 'due'
end

local more = promote()
local of_each, calling, at = {}, 0, ARGS
while at < #ARGV do
  local first, n = at + 1, tonumber(ARGV[at + 1])
  local function arg(i) if i <= n then return ARGV[first + i] end end
  local ok, status, extra = true, nil, nil
  if at == ARGS then
    status, extra = settle(arg) -- what fails here fails the script, and tells where: nearly always Redis refuses to write at all
  else
    more = more and promote()
    ok, status, extra = pcall(settle, arg) -- the others have a right to what became of theirs
  end
  if not ok then
    forget_graves(tonumber(arg(4)))
    status, extra = 'error', { type(status) == 'table' and status.err or tostring(status) }
  end
  if status == 'batch' then calling = calling + 1 end
  of_each[#of_each + 1] = { status, extra or {} }
  at = first + n
end
return finish('settled', of_each, calling == #of_each)
