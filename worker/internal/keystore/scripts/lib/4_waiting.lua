-- Waiting.

-- An entry of a waiting list: version, day of the ledger, key. It counts only while the ledger has that version.
local function entry(ver, day, k) return char(ver, day % 250) .. k end
local function entry_day(e) return full_day(byte(e, 2)) end
local function counts(e, rec) return byte(rec, 2) == byte(e, 1) and floor(byte(rec, 1) / 8) % 8 == WAITING end

local function list_key(class, rid, bucket) return P .. 'w:' .. class .. ':' .. rid .. ':' .. bucket end
local function dir_key(class, rid) return P .. 'd:' .. class .. ':' .. rid end

local function push(class, rid, bucket, entries, front)
  local key, cmd = list_key(class, rid, bucket), front and 'LPUSH' or 'RPUSH'
  for i = 1, #entries, 200 do
    call(cmd, key, unpack(entries, i, math.min(i + 199, #entries)))
  end
  call('ZADD', dir_key(class, rid), bucket, bucket)
end

-- Counts by more (or less) keys of a robot and class as waiting, and tells how many do then.
local function add_waiting(class, rid, by)
  if by == 0 then return tonumber(call('HGET', P .. 'n', class .. ':' .. rid) or 0) end
  meta.waiting = tonumber(call('HINCRBY', KEYS[1], 'waiting', by))
  return tonumber(call('HINCRBY', P .. 'n', class .. ':' .. rid, by))
end

-- When a robot's keys of a class may go: at once when they fill a call or are urgent, else when the linger is over.
local function ready_after_push(class, rid, deadline)
  local n, key = tonumber(call('HGET', P .. 'n', class .. ':' .. rid) or 0), P .. 'ready:' .. class
  if n <= 0 then return end
  local t = now
  if class > 0 and n < FULL and linger > 0 then t = now + math.min(linger, math.max(0, deadline * 1000 - 2 * linger - now)) end
  local old = call('ZSCORE', key, rid)
  if not old or tonumber(old) > t then call('ZADD', key, int(t), rid) end
end

-- Removes what is left in the lists when nothing in them counts: entries of keys that were made more urgent.
local function clear_lists(class, rid)
  for _, bucket in ipairs(call('ZRANGE', dir_key(class, rid), 0, -1)) do call('UNLINK', list_key(class, rid, bucket)) end
  call('UNLINK', dir_key(class, rid))
end

-- The record, and its day, of the first key of a list. Entries in front of it that no longer count are removed, some of them.
local function head(class, rid, bucket)
  local key = list_key(class, rid, bucket)
  for _ = 1, 100 do
    local e = call('LINDEX', key, 0)
    if not e then
      call('ZREM', dir_key(class, rid), bucket)
      return nil
    end
    local day = entry_day(e)
    local rec = find(day, sub(e, 3), rid)
    if rec and counts(e, rec) then return rec, day end
    call('LPOP', key)
  end
end

-- The same after a claim, when what is left may have waited for a while already.
local function ready_after_claim(class, rid, n)
  local key = P .. 'ready:' .. class
  if n <= 0 then
    call('HDEL', P .. 'n', class .. ':' .. rid)
    call('ZREM', key, rid)
    clear_lists(class, rid)
    return
  end
  local t = now
  if class > 0 and n < FULL and linger > 0 then
    t = now + linger
    local old = tonumber(call('ZSCORE', key, rid) or 0)
    if old > now then t = math.min(t, old) end -- somebody waits who is not in front: what was given back is put there
    for _, bucket in ipairs(call('ZRANGE', dir_key(class, rid), 0, FULL)) do
      local rec, day = head(class, rid, bucket)
      if rec then t = math.min(t, since(rec, day) + linger, parse(rec, day).deadline * 1000 - 2 * linger) end
    end
    t = math.max(t, now)
  end
  call('ZADD', key, int(t), rid)
end

-- A key that was bound waits again, in front of its like, as a new entry.
local function give_back(rid, r)
  local ver = (r.ver + 1) % 256
  r.ver = ver
  write(r.day, r.k, rid, waiting_record(r, r.day))
  push(r.class, rid, floor(r.deadline / BUCKET), { entry(ver, r.day, r.k) }, true)
  add_waiting(r.class, rid, 1)
  ready_after_push(r.class, rid, r.deadline)
end

-- A key that was bound waits for later: nobody looks at it before.
local function defer(rid, r, delay)
  local ver = (r.ver + 1) % 256
  r.ver = ver
  write(r.day, r.k, rid, waiting_record(r, r.day))
  call('ZADD', P .. 'later', int(now + delay), u2(rid) .. entry(ver, r.day, r.k))
end

-- Keys whose later has come join the waiting.
local function promote()
  local due = call('ZRANGEBYSCORE', P .. 'later', '-inf', int(now), 'LIMIT', 0, 200)
  for _, m in ipairs(due) do
    call('ZREM', P .. 'later', m)
    local rid, e = r2(m, 1), sub(m, 3)
    local day = entry_day(e)
    local rec = find(day, sub(e, 3), rid)
    if rec and counts(e, rec) then
      local r = parse(rec, day)
      push(r.class, rid, floor(r.deadline / BUCKET), { e }, true)
      add_waiting(r.class, rid, 1)
      ready_after_push(r.class, rid, r.deadline)
    end
  end
  return #due
end
