-- Waiting.

-- Keys wait in packs: up to 20 of one robot and class that lie in the ledger of one day and have the same record, which stands
-- in the pack, so that a claim does not look into the ledger. A pack: day of the ledger, number of keys (and 128 where each has
-- the usual 32 bytes; else its length is in front of each, two bytes), since when they wait, the record, the pack's number, the keys.
--
-- Keys that came together are members of their pack in the ledger. While all of them that still are stand in this one place, it has its
-- number, and one write of the pack's record tells how all of them fared. Once it is cut, or made of what was bound, it has the number 0.
--
-- A key that was made more urgent leaves its place in a pack behind: it no longer counts, since the ledger has another
-- version of it. meta.stale is how many such places there are; while there are any, the ledger is asked.
local HEAD, USUAL = 18, 128
local NO_NUMBER = '\0\0\0\0\0'

-- Collects keys, in their order, into packs.
local function packer()
  local packs, keys, n, day, rec, usual, number = {}, {}, 0, nil, nil, nil, nil
  local self = { n = 0 }

  local function close()
    if n == 0 then return end
    packs[#packs + 1] = char(day % 250, usual and n + USUAL or n) .. u3(clamp((now - day * DAY * 1000) / 20, 16777215)) .. rec .. number ..
      table.concat(keys, '', 1, n)
    n = 0
  end

  -- of: the number (five bytes) of the pack of which the key is a member in the ledger, nil where it has a record of its own.
  function self.add(d, r, k, of)
    of = of or NO_NUMBER
    if n == FULL or d ~= day or r ~= rec or of ~= number or (#k == 32) ~= usual or byte(r) >= 64 then
      close()
      day, rec, usual, number = d, r, #k == 32, of
    end
    n, self.n = n + 1, self.n + 1
    keys[n] = usual and k or u2(#k) .. k
  end

  function self.packs()
    close()
    return packs
  end

  return self
end

-- What stands in front of a pack's keys: day, how many, whether they are usual, the record.
local function head_of(p)
  local day, n = byte(p, 1, 2)
  return full_day(day), n % USUAL, n >= USUAL, sub(p, 6, 13)
end

-- Calls f with each key of a pack that begins at a place of a text; returns where the next one begins.
local function each_key(text, at, f)
  local n = byte(text, at + 1)
  local i = at + HEAD
  if n >= USUAL then
    for _ = 1, n - USUAL do
      f(sub(text, i, i + 31))
      i = i + 32
    end
    return i
  end
  for _ = 1, n do
    local size = r2(text, i)
    f(sub(text, i + 2, i + 1 + size))
    i = i + 2 + size
  end
  return i
end

-- Cuts a pack: the first of its keys, and the others. Neither is all of it.
local function cut_pack(p, first)
  local n = byte(p, 2)
  local i, usual = HEAD + 1, 0
  if n >= USUAL then
    i, usual = i + 32 * first, USUAL
  else
    for _ = 1, first do i = i + 2 + r2(p, i) end
  end
  local day, rest = sub(p, 1, 1), sub(p, 3, 13) .. NO_NUMBER
  return day .. char(first + usual) .. rest .. sub(p, HEAD + 1, i - 1), day .. char(n - first) .. rest .. sub(p, i)
end

local function set_stale(by)
  if by ~= 0 then meta.stale = tonumber(call('HINCRBY', KEYS[1], 'stale', by)) end
end

-- Whether a key of a pack counts, given the record that the ledger has of it now.
local function counts(rec, now_rec)
  if not now_rec or byte(rec, 2) ~= byte(now_rec, 2) then return false end
  return floor(byte(now_rec, 1) / 2) % 32 == floor(byte(rec, 1) / 2) % 32 -- class and state
end

-- A pack without the keys that do not count, nil when none is left; only to be called for packs that are taken out.
local function current(p, rid)
  if meta.stale <= 0 then return p end
  local day, n, _, rec = head_of(p)
  local left = packer()
  each_key(p, 1, function(k)
    if counts(rec, find(day, k, rid)) then left.add(day, rec, k) end
  end)
  set_stale(left.n - n)
  local same = left.packs()[1]
  return same and sub(p, 1, 1) .. sub(same, 2, 2) .. sub(p, 3, HEAD) .. sub(same, HEAD + 1)
end

-- A key that waits for later, as a member of their set: robot, version, day of the ledger, key.
local function later_member(rid, ver, day, k) return u2(rid) .. char(ver, day % 250) .. k end

local function list_key(class, rid, bucket) return format('%sw:%d:%d:%d', P, class, rid, bucket) end
local function dir_key(class, rid) return format('%sd:%d:%d', P, class, rid) end
local function sizes_key(class, rid) return format('%sb:%d:%d', P, class, rid) end
local READY = { [0] = P .. 'ready:0', P .. 'ready:1', P .. 'ready:2' }

-- Counts by more (or less) keys in a bucket, and tells how many are in it then.
local function add_bucket(class, rid, bucket, by)
  if by == 0 then return tonumber(call('HGET', sizes_key(class, rid), bucket) or 0) end
  return tonumber(call('HINCRBY', sizes_key(class, rid), bucket, by))
end

-- Takes a bucket out of the books when nothing is in its list.
local function drop_bucket(class, rid, bucket)
  call('ZREM', dir_key(class, rid), bucket)
  call('HDEL', sizes_key(class, rid), bucket)
end

-- Puts n keys in packs behind (or before) those of a bucket.
local function push(class, rid, bucket, packs, n, front)
  local key, cmd = list_key(class, rid, bucket), front and 'LPUSH' or 'RPUSH'
  if front then
    for i = #packs, 1, -1 do call(cmd, key, packs[i]) end
  else
    call(cmd, key, unpack(packs)) -- of 200 keys at most: see MaxAdmit
  end
  if add_bucket(class, rid, bucket, n) == n then call('ZADD', dir_key(class, rid), bucket, bucket) end
end

-- Counts by more (or less) keys of a robot and class as waiting, and tells how many do then.
local function add_waiting(class, rid, by)
  local name = format('%d:%d', class, rid)
  if by == 0 then return tonumber(call('HGET', P .. 'n', name) or 0) end
  meta.waiting = tonumber(call('HINCRBY', KEYS[1], 'waiting', by))
  return tonumber(call('HINCRBY', P .. 'n', name, by))
end

-- Has a robot's keys of a class be ready at a moment. Who is ready now stands behind those to whom the same run of a script gave their
-- turns before: by the millisecond all of them would be equal, and one robot first each time.
local function set_ready(class, rid, at)
  known.none_ready[class] = nil
  if at ~= now then
    call('ZADD', READY[class], int(at), rid)
    return
  end
  known.turns = known.turns + 1
  call('ZADD', READY[class], format('%.3f', (now_us - 1000 + known.turns) / 1000), rid)
end

-- When a robot's keys of a class may go: at once when they fill a call or are urgent, else when the linger is over.
local function ready_after_push(class, rid, deadline)
  local n = add_waiting(class, rid, 0)
  if n <= 0 then return end
  local t = now
  if class > 0 and n < FULL and linger > 0 then t = now + math.min(linger, math.max(0, deadline * 1000 - 2 * linger - now)) end
  local old = call('ZSCORE', READY[class], rid)
  if not old or tonumber(old) > t then set_ready(class, rid, t) end
end

-- Removes what is left in the lists when nothing in them counts: the places of keys that were made more urgent.
local function clear_lists(class, rid)
  if meta.stale <= 0 then return end
  for _, bucket in ipairs(call('ZRANGE', dir_key(class, rid), 0, -1)) do
    local key, stale = list_key(class, rid, bucket), 0
    for _, p in ipairs(call('LRANGE', key, 0, -1)) do stale = stale + byte(p, 2) % USUAL end
    set_stale(-stale)
    call('UNLINK', key)
  end
  call('UNLINK', dir_key(class, rid), sizes_key(class, rid))
end

-- Since when the first keys of a bucket wait, ms, and their deadline, s. Packs in front of them that no longer count are
-- removed, some of them.
local function front_of(class, rid, bucket)
  local key = list_key(class, rid, bucket)
  for _ = 1, 100 do
    local p = call('LINDEX', key, 0)
    if not p then
      drop_bucket(class, rid, bucket)
      return nil
    end
    local left = current(p, rid)
    if left == p then
      local day, _, _, rec = head_of(p)
      return r3(p, 3) * 20 + day * DAY * 1000, r3(rec, 6) + (day - 100) * DAY
    end
    if left then call('LSET', key, 0, left) else call('LPOP', key) end
  end
end

-- The same after a claim, when what is left may have waited for a while already.
local function ready_after_claim(class, rid, n)
  if n <= 0 then
    call('HDEL', P .. 'n', format('%d:%d', class, rid))
    call('ZREM', READY[class], rid)
    clear_lists(class, rid)
    return
  end
  local t = now
  if class > 0 and n < FULL and linger > 0 then
    t = now + linger
    local old = tonumber(call('ZSCORE', READY[class], rid) or 0)
    if old > now then t = math.min(t, old) end -- somebody waits who is not in front: what was given back is put there
    for _, bucket in ipairs(call('ZRANGE', dir_key(class, rid), 0, FULL)) do
      local since, deadline = front_of(class, rid, bucket)
      if since then t = math.min(t, since + linger, deadline * 1000 - 2 * linger) end
    end
    t = math.max(t, now)
  end
  set_ready(class, rid, t)
end

-- Keys that were bound wait again, in front of their like, in their order, at their next version.
local function give_back(rid, items)
  local buckets, order = {}, {}
  for _, r in ipairs(items) do
    r.ver = (r.ver + 1) % 256
    local rec = record(WAITING, r, r.day)
    write(r.day, r.k, rid, rec)
    local name = r.class .. ':' .. floor(r.deadline / BUCKET)
    local b = buckets[name]
    if not b then
      b = { class = r.class, bucket = floor(r.deadline / BUCKET), deadline = r.deadline, keys = packer() }
      buckets[name], order[#order + 1] = b, b
    end
    b.deadline = math.min(b.deadline, r.deadline)
    b.keys.add(r.day, rec, r.k)
  end
  for _, b in ipairs(order) do
    push(b.class, rid, b.bucket, b.keys.packs(), b.keys.n, true)
    add_waiting(b.class, rid, b.keys.n)
    ready_after_push(b.class, rid, b.deadline)
  end
end

-- A key that was bound waits for later: nobody looks at it before.
local function defer(rid, r, delay)
  r.ver = (r.ver + 1) % 256
  write(r.day, r.k, rid, record(WAITING, r, r.day))
  call('ZADD', P .. 'later', int(now + delay), later_member(rid, r.ver, r.day, r.k))
end

-- Keys whose later has come join the waiting, some of them; true where there may be more.
local function promote()
  local due = call('ZRANGEBYSCORE', P .. 'later', '-inf', int(now), 'LIMIT', 0, 200)
  for _, m in ipairs(due) do
    call('ZREM', P .. 'later', m)
    local rid, ver, day, k = r2(m, 1), byte(m, 3), full_day(byte(m, 4)), sub(m, 5)
    local rec = find(day, k, rid)
    if rec and byte(rec, 2) == ver and floor(byte(rec, 1) / 8) % 8 == WAITING then
      local r, keys = parse(rec, day), packer()
      keys.add(day, sub(rec, 1, 8), k)
      push(r.class, rid, floor(r.deadline / BUCKET), keys.packs(), 1, true)
      add_waiting(r.class, rid, 1)
      ready_after_push(r.class, rid, r.deadline)
    end
  end
  return #due == 200
end
