-- admit.lua: takes keys of one robot in, each once. Running it twice changes nothing.
--
-- ARGV (after those of 0_base.lua): robot code; class 0 urgent, 1 default, 2 bulk; incident ('' = none);
--   force: 1 revives keys that are dead (replay); fence: with force, only those that died in this batch, 0 = any;
--   sent: when all were sent, s, 0 = now, '' = told for each; then the keys; with sent '' then as many times.
-- Adds to the reply: accepted, known already, made more urgent, revived.
-- Cost: a command a key, one more for each other day that has a ledger, and some for each pack. The caller sends at most 200 keys.

promote()
local robot, class, incident = ARGV[ARGS + 1], tonumber(ARGV[ARGS + 2]), ARGV[ARGS + 3]
local force, fence, sent = ARGV[ARGS + 4] == '1', tonumber(ARGV[ARGS + 5]), ARGV[ARGS + 6]
local first = ARGS + 7
local n = #ARGV - first + 1
if sent == '' then n = n / 2 end

local rid = id_of('robot', robot)
local inc = 0
if incident ~= '' then inc = id_of('incident', incident) end
local accepted, known, raised, revived, earliest = 0, 0, 0, 0, nil
local order, bound = {}, nil

-- What keys of one deadline share: where they wait, and the record of new ones. Deadlines as text are the indexes: a large number
-- makes some Lua engines allocate an array up to it.
local buckets, likes, last = {}, {}, {}

local function like(deadline)
  if last.deadline == deadline then return last end
  local as_text, bucket = tostring(deadline), floor(deadline / BUCKET)
  local l = likes[as_text]
  if not l then
    local name = tostring(bucket)
    if not buckets[name] then
      buckets[name] = { bucket = bucket, keys = packer() }
      order[#order + 1] = buckets[name]
    end
    l = { deadline = deadline, add = buckets[name].keys.add,
      rec = record(WAITING, { class = class, amb = 0, ver = 1, att = 0, inc = inc, deadline = deadline }, today) }
    likes[as_text] = l
  end
  last = l
  return l
end

local function enlist(l, day, rec, k, of)
  l.add(day, rec, k, of)
  if not earliest or l.deadline < earliest then earliest = l.deadline end
end

local sent_of_all = tonumber(sent) -- nil where each has a time of its own

-- Keys that come together, in a number that fills calls, are members of packs of 20.
local together = sent_of_all and n >= FULL
local number, member, in_pack, given = nil, nil, FULL, nil

-- What a new key gets in the ledger: its record, or the number of the pack that it is to be a member of.
local function entry(k, l)
  if not together or #k ~= 32 then return l.rec end
  if in_pack == FULL then
    given = given or tonumber(call('HGET', KEYS[1], 'packs') or 0)
    number, in_pack = u5(given + 1), 0
    member = char(MEMBER) .. number
  end
  return member
end

-- A key is new.
local function accept(k, l, new)
  if new ~= member then
    in_pack = FULL -- one that stands between its keys would cut a pack in two
    return enlist(l, today, l.rec, k)
  end
  if in_pack == 0 then
    given = given + 1
    call('HSET', KEYS[1], 'packs', int(given))
    write_pack(today, given, l.rec)
  end
  in_pack = in_pack + 1
  enlist(l, today, l.rec, k, number)
end

local function deadline_of(i)
  local at = sent_of_all or tonumber(ARGV[first + n + i - 1])
  if at == 0 then at = floor(now / 1000) end
  return at + life
end

-- Writes a key that is new, or tells what is known of it. It is looked for in the ledgers of three days, since none waits
-- longer than its window, and in tomorrow's, since Redis's clock may have been set back.
local older = {}
for _, day in ipairs({ today - 1, today - 2, today + 1 }) do
  if ledger(day).b > 0 then older[#older + 1] = day end
end

local function admit(k, new)
  for i = 1, #older do
    local old = find(older[i], k, rid)
    if old then return parse(old, older[i]), older[i] end
  end
  local old = write_new(today, k, rid, new)
  if old then return parse(old, today), today end
end

local function is_bound(k)
  bound = bound or all_bound()
  return bound[field(k, rid)]
end

-- A key that waits for later is in no list, and is not counted with those that are.
local function is_deferred(k, r, day) return call('ZSCORE', P .. 'later', later_member(rid, r.ver, day, k)) end

local function readmit(k, r, day)
  r.ver, r.class = (r.ver + 1) % 256, class
  local rec = record(WAITING, r, day)
  write(day, k, rid, rec)
  enlist(like(r.deadline), day, rec, k)
  in_pack = FULL
end

-- It leaves its place among the less urgent ones behind.
local function raise(k, r, day)
  add_waiting(r.class, rid, -1)
  add_bucket(r.class, rid, floor(r.deadline / BUCKET), -1)
  set_stale(1)
  readmit(k, r, day)
end

local like_all = sent_of_all and like(deadline_of(1))

for i = 1, n do
  local k, l = ARGV[first + i - 1], like_all or like(deadline_of(i))
  local new = entry(k, l)
  local r, day = admit(k, new)
  if not r then
    accept(k, l, new)
    accepted = accepted + 1
  elseif r.state == WAITING and class < r.class and not is_bound(k) and not is_deferred(k, r, day) then
    raise(k, r, day)
    raised = raised + 1
  elseif r.state == DEAD and force and (fence == 0 or fence == r5(r.rec, 9)) then
    count(rid, r.inc, 'd', -1)
    r.att, r.solo = 0, 0
    readmit(k, r, day)
    revived = revived + 1
  else
    known = known + 1
  end
end

for _, b in ipairs(order) do
  if b.keys.n > 0 then push(class, rid, b.bucket, b.keys.packs(), b.keys.n, false) end
end
add_waiting(class, rid, accepted + raised + revived)
count(rid, inc, 'a', accepted)
if earliest then ready_after_push(class, rid, earliest) end
if raised > 0 then
  for c = class + 1, 2 do ready_after_claim(c, rid, add_waiting(c, rid, 0)) end
end
return finish('ok', { accepted, known, raised, revived })
