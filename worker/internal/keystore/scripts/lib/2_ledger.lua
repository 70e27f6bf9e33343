-- The ledger: linear hashing. One bucket is added for every 48 keys, so that a bucket always fits a listpack.

local MEMBER = 128
local ledger, bucket_key, expire, field, record_of, write_pack, find, write, write_new, save_ledgers
do -- a script has no room for more than 200 names at once
  local ledgers = {} -- by day as text: a large number as an index makes some Lua engines allocate an array up to it

  local function load_ledger(day)
    local v = call('HMGET', P .. 'ledger:' .. day, 'n', 'b', 'loose')
    local l = { n = tonumber(v[1] or 0) or 0, b = tonumber(v[2] or 0) or 0, p = 1, dirty = false, loose = v[3],
      name = P .. 'ledger:' .. day .. ':' }
    while l.p * 2 <= l.b do l.p = l.p * 2 end
    return l
  end

  local last_day, last_ledger -- nearly always the one that is asked for again: turning the number into text is what costs

  function ledger(day)
    if day == last_day then return last_ledger end
    local as_text = tostring(day)
    ledgers[as_text] = ledgers[as_text] or load_ledger(day)
    last_day, last_ledger = day, ledgers[as_text]
    return last_ledger
  end

  -- Redis's own library gives the eight 32-bit numbers of a usual key; the Redis that is embedded in a process has none.
  local _, words = pcall(function() return struct.unpack end)
  if type(words) ~= 'function' then words = nil end

  -- Spreads keys over buckets: for the usual 32 bytes a sum with odd factors of 18 bits (so that it is exact in a double), which
  -- is several times cheaper than a digest and spreads counters as well as noise; else SHA-1. All workers of a Redis have the same.
  -- text has the key in front, which is so long.
  local function hash(text, size)
    if size ~= 32 or not words then return tonumber(sub(redis.sha1hex(sub(text, 1, size)), 1, 8), 16) end
    local a, b, c, d, e, f, g, h = words('>I4I4I4I4I4I4I4I4', text)
    return (a * 259033 + b * 139369 + c * 243517 + d * 184727 + e * 226183 + f * 153529 + g * 203311 + h * 168781) % 4294967291
  end

  function bucket_key(l, k)
    local h = hash(k, #k)
    local i = h % (2 * l.p)
    if i >= l.b then i = h % l.p end
    return format('%s%d', l.name, i) -- .. is slower: it turns numbers into text as if they had fractions
  end

  function expire(key, day) call('EXPIREAT', key, (day + 1) * DAY + ledger_ttl) end

  local function split(day, l)
    local from, to = l.name .. (l.b - l.p), l.name .. l.b
    local all, put, del = call('HGETALL', from), {}, {}
    local buckets, moved = 2 * l.p, 0
    for i = 1, #all, 2 do
      local f = all[i]
      if hash(f, #f - 2) % buckets == l.b then
        moved = moved + 1
        del[moved] = f
        put[2 * moved - 1], put[2 * moved] = f, all[i + 1]
      end
    end
    for i = 1, #put, 200 do call('HSET', to, unpack(put, i, math.min(i + 199, #put))) end
    for i = 1, #del, 200 do call('HDEL', from, unpack(del, i, math.min(i + 199, #del))) end
    if #del > 0 then expire(to, day) end
    -- One of the two is empty, and will be made anew, without an end, by whatever comes into it.
    if #del == 0 or 2 * #del == #all then l.loose = '1' end
    l.b = l.b + 1
    if l.b == l.p * 2 then l.p = l.b end
  end

  -- The field of a key: the key, then its robot's number: one key under two robots is two keys.
  local last_rid, last_suffix
  function field(k, rid)
    if rid ~= last_rid then last_rid, last_suffix = rid, u2(rid) end
    return k .. last_suffix
  end

  -- Keys that came together stand in the ledger as members of their pack (see 4_waiting.lua): 128, then its number. Their record is the
  -- pack's, for as long as none of them fares otherwise than the others: who does gets a record of its own.
  local members = {} -- records of packs that were read, by day and what their keys have in the ledger

  local function pack_key(day, id) return format('%spack:%d:%d', P, day, floor(id / 64)) end

  function record_of(day, v)
    if not v or byte(v) < MEMBER then return v or nil end
    local name = day .. v
    if not members[name] then
      local id = r5(v, 2)
      members[name] = call('HGET', pack_key(day, id), id % 64)
    end
    return members[name] or nil
  end

  -- Writes the record of a pack, for all keys that are members of it.
  function write_pack(day, id, rec)
    local key = pack_key(day, id)
    members[day .. char(MEMBER) .. u5(id)] = nil
    if call('HSET', key, id % 64, rec) == 1 then expire(key, day) end
  end

  function find(day, k, rid)
    local l = ledger(day)
    if l.b == 0 then return nil end
    return record_of(day, call('HGET', bucket_key(l, k), field(k, rid)))
  end

  -- A new field has come into the ledger.
  local function grown(day, l, key)
    l.n, l.dirty = l.n + 1, true
    if l.n <= 200 or l.loose then expire(key, day) end -- later buckets get their end when they are split off
    if l.n > l.b * 48 then split(day, l) end
  end

  function write(day, k, rid, rec)
    local l = ledger(day)
    if l.b == 0 then l.b, l.p, l.dirty = 1, 1, true end
    local key = bucket_key(l, k)
    if call('HSET', key, field(k, rid), rec) == 1 then grown(day, l, key) end
  end

  -- Writes only what is not there yet, a record or the membership of a pack. Returns the record that was, or nil.
  function write_new(day, k, rid, rec)
    local l = ledger(day)
    if l.b == 0 then l.b, l.p, l.dirty = 1, 1, true end
    local key, f = bucket_key(l, k), field(k, rid)
    if call('HSETNX', key, f, rec) == 1 then
      grown(day, l, key)
      return nil
    end
    return record_of(day, call('HGET', key, f))
  end

  -- Forgets the days whose ledgers have expired.
  local function forget_days()
    for _, day in ipairs(call('SMEMBERS', P .. 'days')) do
      if ((day + 1) * DAY + ledger_ttl) * 1000 < now then call('SREM', P .. 'days', day) end
    end
  end

  function save_ledgers()
    for day, l in pairs(ledgers) do
      if l.dirty then
        call('HSET', P .. 'ledger:' .. day, 'n', l.n, 'b', l.b)
        if l.loose then call('HSET', P .. 'ledger:' .. day, 'loose', l.loose) end
        expire(P .. 'ledger:' .. day, day)
        if call('SADD', P .. 'days', day) == 1 then forget_days() end
      end
    end
  end
end

-- A record of the ledger: flags, version, attempts, incident, deadline; once settled the batch behind it, and the reason of
-- a death. Flags: state x 8 + class x 2 + ambiguous, and 64 for a key that must be called alone.
-- r has class, amb, ver, att, inc, deadline, and solo where it matters.
local function record(state, r, day)
  return char((r.solo or 0) * 64 + state * 8 + r.class * 2 + r.amb, r.ver, r.att) .. u2(r.inc) ..
    u3(clamp(r.deadline - (day - 100) * DAY, 16777215))
end

local function parse(rec, day)
  local sc, ver, att = byte(rec, 1, 3)
  return {
    state = floor(sc / 8) % 8, class = floor(sc / 2) % 4, amb = sc % 2, solo = floor(sc / 64), ver = ver, att = att,
    inc = r2(rec, 4), deadline = r3(rec, 6) + (day - 100) * DAY, rec = rec,
  }
end

-- Counters: per robot and incident; a accepted, r recalled, d dead, c cancelled. What waits is a - r - d - c - bound.
local function count(rid, inc, what, by)
  if by ~= 0 then call('HINCRBY', P .. 'count', format('%d:%d:%s', rid, inc, what), by) end
end
