-- Claim.

local swept, popped_total, grave_batch = 0, 0, 0
local SWEEP = 1000 -- keys that one script run lets die at most, so that none holds Redis up for long

-- One batch number for all that die in this run without a call.
local function no_call()
  if grave_batch == 0 then
    grave_batch = next_batch()
    remember_call(grave_batch, '')
  end
  return grave_batch
end

-- The incidents that were cancelled, by their number; nil where there is none.
local cancelled_incidents = false
local function cancelled()
  if cancelled_incidents == false then
    cancelled_incidents = nil
    for _, i in ipairs(call('SMEMBERS', P .. 'cancelled')) do
      cancelled_incidents = cancelled_incidents or {}
      cancelled_incidents[tonumber(i)] = true
    end
  end
  return cancelled_incidents
end

-- Has all keys die that wait for a robot now; the mark goes with the last of them, so that what comes later is tried.
local function condemn(rid, why)
  known.marks[rid] = nil
  for class = 0, 2 do
    if add_waiting(class, rid, 0) > 0 then
      call('HSET', P .. 'deadrobots', rid, why.code .. '\n' .. why.request .. '\n' .. why.message)
      set_ready(class, rid, now)
    end
  end
end

local function dead_robot(rid)
  if known.marks[rid] == nil then known.marks[rid] = call('HGET', P .. 'deadrobots', rid) end
  local v = known.marks[rid]
  if not v then return nil end
  local code, request, message = string.match(v, '^(.-)\n(.-)\n(.*)$')
  return { code = code, message = message, request = request }
end

-- The keys of a pack end here, without a call.
local function end_keys(p, rid, ended)
  local day, _, _, rec = head_of(p)
  each_key(p, 1, function(k)
    local r = parse(rec, day)
    if ended.cancelled then
      write(day, k, rid, record(CANCELLED, r, day) .. u5(no_call()))
      count(rid, r.inc, 'c', 1)
    else
      die(rid, day, k, r, ended.code, ended.message, ended.request, no_call())
    end
  end)
end

local WINDOW_CLOSED = { code = 'window.closed', message = 'its window closed while it waited; no call was spent on it', request = '' }

-- Why the keys of a pack must not be called, nil when they may be.
local function ended(p, robot)
  local day, _, _, rec = head_of(p)
  local gone = cancelled()
  if gone and gone[r2(rec, 4)] then return { cancelled = true } end
  if (r3(rec, 6) + (day - 100) * DAY) * 1000 <= now then return WINDOW_CLOSED end
  return robot
end

-- Puts back, in their old order, the popped packs from one on.
local function put_back(key, popped, from)
  for i = #popped, from, -1 do call('LPUSH', key, popped[i]) end
end

-- Takes of the packs that were popped from a list what fits into got, and puts the others back. Returns how many keys are
-- out of the list for good, whether the batch must go as it is (a key that failed alone goes alone again, so that it cannot
-- sink others), and what is left of a pack that was cut.
local function take(rid, key, popped, got, robot)
  local taken = 0
  for at, whole in ipairs(popped) do
    local p = current(whole, rid)
    local why = p and ended(p, robot)
    if why then
      end_keys(p, rid, why)
      local n = byte(p, 2) % USUAL
      taken, swept = taken + n, swept + n
    elseif p then
      local n, solo, rest = byte(p, 2) % USUAL, byte(p, 6) >= 64, nil
      if got.n == FULL or (solo and got.n > 0) then
        put_back(key, popped, at + 1)
        call('LPUSH', key, p)
        return taken, true
      end
      if got.n + n > FULL then
        n = FULL - got.n
        p, rest = cut_pack(p, n)
      end
      got[#got + 1] = p
      taken, got.n = taken + n, got.n + n
      if rest or solo then
        put_back(key, popped, at + 1)
        return taken, true, rest
      end
    end
  end
  return taken, false
end

-- Puts back what is left of a pack that was cut. In front it would have every pack behind it cut as well, so it goes behind those whose windows
-- close when its own does, where the others fill a call; left: how many keys are in the list with it.
local function put_rest(key, rest, left)
  local where = 'LPUSH'
  if left - byte(rest, 2) % USUAL >= FULL then
    local last = call('LINDEX', key, -1)
    if last and byte(last, 1) == byte(rest, 1) and sub(last, 11, 13) == sub(rest, 11, 13) then where = 'RPUSH' end
  end
  call(where, key, rest)
end

-- Takes keys of one robot and class into got, the earliest deadlines first. Keys whose window has closed, whose incident
-- was cancelled or whose robot is dead end here without a call.
-- only_closed: touch nothing but buckets that are wholly closed. Returns true when the batch must go as it is, and how many
-- keys still wait.
local function gather(class, rid, got, robot, only_closed)
  local dir, total, stop, packs = dir_key(class, rid), 0, false, 1
  while got.n < FULL and swept < SWEEP and popped_total < 2 * SWEEP and not stop do
    local bucket = call('ZRANGE', dir, 0, 0)[1]
    if not bucket then break end
    local closed = (tonumber(bucket) + 1) * BUCKET * 1000 <= now
    if only_closed and not closed then break end
    local key, taken, rest = list_key(class, rid, bucket), 0, nil
    local popped = call('LPOP', key, (robot or closed) and 10 or packs) or {}
    for _, p in ipairs(popped) do popped_total = popped_total + byte(p, 2) % USUAL end
    taken, stop, rest = take(rid, key, popped, got, robot)
    total = total + taken
    local left = add_bucket(class, rid, bucket, -taken)
    if rest then put_rest(key, rest, left) end
    if #popped == 0 or (left <= 0 and (meta.stale <= 0 or call('EXISTS', key) == 0)) then drop_bucket(class, rid, bucket) end
    -- Packs may be small, where keys came one at a time: then more of them are taken at once.
    packs = math.max(1, floor((FULL - got.n) * #popped / math.max(1, taken)))
  end
  return stop, add_waiting(class, rid, -total)
end

-- Takes the mark from a dead robot when none of its keys waits any more.
local function absolve(rid)
  for c = 0, 2 do
    if add_waiting(c, rid, 0) > 0 then return end
  end
  known.marks[rid] = nil
  call('HDEL', P .. 'deadrobots', rid)
end

-- Takes a batch of one robot: of the class that made it ready, filled up from the classes behind it.
local function gather_robot(class, rid)
  local got, robot = { n = 0 }, dead_robot(rid)
  for c = class, 2 do
    local stop, left = gather(c, rid, got, robot, false)
    ready_after_claim(c, rid, left)
    if stop or got.n >= FULL then break end
  end
  if robot then absolve(rid) end
  return got
end

-- Binds keys of a robot to a slot; false where it has none.
local function bind_robot(s, class, rid)
  local got = gather_robot(class, rid)
  if got.n == 0 then return false end
  s.batch, s.rid, s.keys = next_batch(), rid, table.concat(got)
  s.cut, s.tries, s.note, s.at = got.n, 0, '', permit()
  charge(s)
  set_batch(s)
  probe(rid, s.batch)
  return true
end

-- Binds the next batch to a slot, of the robots that are ready by a moment. avoid: see skip_held; 200 are passed over so at most.
local function claim_by(s, by, avoid)
  local skipped = 0
  for class = 0, 2 do
    while may_call(class) and not (by == now and known.none_ready[class]) do
      if avoid and skipped >= 200 then return 'none' end
      if swept >= SWEEP or popped_total >= 2 * SWEEP then return 'more' end
      local rid = tonumber(call('ZRANGEBYSCORE', READY[class], '-inf', int(by), 'LIMIT', 0, 1)[1])
      if not rid then
        known.none_ready[class] = true -- nor by now, where by is later
        break
      end
      if skip_held(class, rid, avoid) then
        skipped = skipped + 1
      else
        local before = popped_total
        if bind_robot(s, class, rid) then return 'batch' end
        if popped_total == before then -- counted as waiting, yet in no list: trust the lists
          ready_after_claim(class, rid, add_waiting(class, rid, -add_waiting(class, rid, 0)))
        end
      end
    end
  end
  return 'none'
end

-- Binds the probe of a held app to a slot: of the robot that succeeded last, where its keys may go and it is not held itself.
local function claim_proven(s)
  local rid = tonumber(call('HGET', KEYS[1], 'ok_rid') or 0)
  if rid == 0 or held_robot(rid) or dead_robot(rid) then return 'none' end
  for class = 0, 2 do
    local ready = may_call(class) and tonumber(call('ZSCORE', READY[class], rid) or now + 1)
    if ready and ready <= now then
      if bind_robot(s, class, rid) then return 'batch' end
    end
  end
  return 'none'
end

-- Binds the next batch to a slot: urgent before default before bulk, robots in turn, the earliest deadlines of a robot
-- first. Returns 'batch', 'none', or 'more' when the run's share of dying keys was used up before a batch was found. With more
-- slots at work than there are to be, this one ends: the others go on.
local function claim(s)
  local slots = slots_now()
  local at_work = slots.all - slots.held - slots.slow
  if is_stuck(s) then at_work = at_work + 1 end -- it is not: it is here
  if meta.held > now or rest_until() > 0 or at_work > max_slots then return 'none' end
  if meta.held == 0 or meta.robots == 0 then return claim_by(s, now, false) end
  local got = claim_proven(s)
  if got == 'none' then got = claim_by(s, now, true) end -- puts robots that are held off by a millisecond
  if got == 'none' then got = claim_by(s, now + 1, false) end
  return got
end

-- Lets keys die whose window has closed, also while the app is held and nobody claims. unswept: there are more of them.
local unswept = false
local function sweep()
  for class = 0, 2 do
    for _, rid in ipairs(call('ZRANGE', READY[class], 0, -1)) do
      local before = popped_total
      local _, left = gather(class, tonumber(rid), { n = 0 }, nil, true)
      if popped_total > before then
        ready_after_claim(class, tonumber(rid), left)
        absolve(rid)
      end
      if swept >= SWEEP or popped_total >= 2 * SWEEP then
        unswept = true
        return
      end
    end
  end
end
