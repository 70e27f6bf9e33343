-- Slots.

local function slot_key(i) return format('%sslot:%d', P, i) end

local function load_slot(i)
  local v = call('HMGET', slot_key(i), 'state', 'gen', 'run', 'retry', 'batch', 'rid', 'cut', 'tries', 'note', 'at', 'keys', 'paid')
  local batch, at = tonumber(v[5] or 0), tonumber(v[10] or 0)
  return {
    i = i, state = v[1] or 'idle', gen = tonumber(v[2] or 0), run = tonumber(v[3] or 0), retry = tonumber(v[4] or 0),
    batch = batch, rid = tonumber(v[6] or 0), cut = tonumber(v[7] or 0), tries = tonumber(v[8] or 0),
    note = v[9] or '', at = at, keys = v[11] or '', paid = v[12] or '',
    calling = v[1] == 'running' and batch > 0 and floor(at / 1000) or nil, -- as it stands among the calls that are under way
  }
end

-- A call that goes on for longer than stuck_after no longer keeps another from being made in its place: its worker may be dead, or it hangs. So
-- that a service that hangs is not called much more for it, there are no more than the cap of slots, until they have gone on for STUCK (ms).
local STUCK = 5000
local MOST_SLOTS = 255

-- How many slots are not idle, wait out a backoff, have a call under way for longer than usual, and for so long that it counts for nothing.
local tally = nil
local function slots_now()
  tally = tally or { all = call('HLEN', P .. 'slots'), held = call('HLEN', P .. 'held'),
    slow = call('ZCOUNT', P .. 'calling', '-inf', int(now - stuck_after)), stuck = call('ZCOUNT', P .. 'calling', '-inf', int(now - STUCK)) }
  return tally
end

local function is_stuck(s) return s.batch > 0 and floor(s.at / 1000) <= now - stuck_after end

local function set_calling(s)
  if tally and s.calling then -- the call that is over was counted, if it went on for long
    if s.calling <= now - stuck_after then tally.slow = tally.slow - 1 end
    if s.calling <= now - STUCK then tally.stuck = tally.stuck - 1 end
  end
  s.calling = floor(s.at / 1000)
  call('ZADD', P .. 'calling', int(s.calling), s.i)
end

local function end_calling(s)
  s.calling, tally = nil, nil
  call('ZREM', P .. 'calling', s.i)
end

local function set_state(s, state)
  s.state, tally = state, nil
  if state ~= 'running' then end_calling(s) end
  call('HSET', slot_key(s.i), 'state', state, 'gen', s.gen, 'run', s.run, 'retry', s.retry)
  if state == 'idle' then call('HDEL', P .. 'slots', s.i) else call('HSET', P .. 'slots', s.i, s.gen) end
  if state == 'due' then call('HSET', P .. 'due', s.i, s.gen) else call('HDEL', P .. 'due', s.i) end
  if state == 'held' then call('HSET', P .. 'held', s.i, s.gen) else call('HDEL', P .. 'held', s.i) end
end

local function set_batch(s)
  call('HSET', slot_key(s.i), 'batch', int(s.batch), 'rid', s.rid, 'cut', s.cut, 'tries', s.tries, 'note', s.note,
    'at', int(s.at), 'keys', s.keys, 'paid', s.paid)
  if s.state == 'running' then set_calling(s) end
end

local function drop_batch(s)
  s.batch, s.keys, s.cut, s.tries, s.note, s.paid = 0, '', 0, 0, '', ''
  end_calling(s)
  call('HDEL', slot_key(s.i), 'batch', 'rid', 'cut', 'tries', 'note', 'at', 'keys', 'paid')
end

-- Due at the next generation: a new task is owed, and the runs of the old one are stale from here on.
local function make_due(s)
  s.gen, s.retry = s.gen + 1, 0
  set_state(s, 'due')
end

-- Calls f with place, day, key and record of each bound key: a slot holds them in packs. Where whole is given and says yes to a pack (place of
-- its first key, how many, day, record, number; only of one that has a number), that pack is passed over.
local function each_bound(s, f, whole)
  local text, i, at = s.keys, 1, 1
  while i <= #text do
    local day, rec, n = full_day(byte(text, i)), sub(text, i + 5, i + 12), byte(text, i + 1) % USUAL
    local id = r5(text, i + 13)
    if whole and id > 0 and whole(at, n, day, rec, id) then
      i, at = i + HEAD + 32 * n, at + n
    else
      i = each_key(text, i, function(k)
        f(at, day, k, rec)
        at = at + 1
      end)
    end
  end
end

local function bound_item_of(day, k, rec)
  local r = parse(rec, day)
  r.day, r.k = day, k
  return r
end

local function bound_items(s)
  local items = {}
  each_bound(s, function(at, day, k, rec) items[at] = bound_item_of(day, k, rec) end)
  return items
end

-- Every key that is bound now, by its field, as it will be when it is settled or given back.
local function all_bound()
  local set = {}
  for _, i in ipairs(call('HKEYS', P .. 'slots')) do
    local s = load_slot(tonumber(i))
    for _, item in ipairs(bound_items(s)) do set[field(item.k, s.rid)] = item end
  end
  return set
end
