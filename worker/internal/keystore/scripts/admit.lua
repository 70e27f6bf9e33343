-- admit.lua: takes keys of one robot in, each once. Running it twice changes nothing.
--
-- ARGV (after those of 0_base.lua): robot code; class 0 urgent, 1 default, 2 bulk; incident ('' = none);
--   force: 1 revives keys that are dead (replay); fence: with force, only those that died in this batch, 0 = any;
--   sent: when all were sent, s, 0 = now, '' = told for each; then the keys; with sent '' then as many times.
-- Adds to the reply: accepted, known already, made more urgent, revived.
-- Cost: about 4 commands a key. The caller sends at most 200 keys.

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
local lists, bound = {}, nil

local function enlist(day, k, rec_ver, deadline)
  local bucket = tostring(floor(deadline / BUCKET))
  lists[bucket] = lists[bucket] or {}
  lists[bucket][#lists[bucket] + 1] = entry(rec_ver, day, k)
  if not earliest or deadline < earliest then earliest = deadline end
end

local function deadline_of(i)
  local at = sent
  if at == '' then at = ARGV[first + n + i - 1] end
  at = tonumber(at)
  if at == 0 then at = floor(now / 1000) end
  return at + life
end

-- The record of a new key, the same for all that share a deadline.
local records = {}
local function new_record(deadline)
  local as_text = tostring(deadline)
  if not records[as_text] then
    records[as_text] = waiting_record({ class = class, amb = 0, ver = 1, att = 0, inc = inc, deadline = deadline }, today)
  end
  return records[as_text]
end

-- Writes a key that is new, or tells what is known of it. It is looked for in the ledgers of three days, since none waits
-- longer than its window, and in tomorrow's, since Redis's clock may have been set back.
local older = {}
for _, day in ipairs({ today - 1, today - 2, today + 1 }) do
  if ledger(day).b > 0 then older[#older + 1] = day end
end

local function admit(k, deadline)
  for _, day in ipairs(older) do
    local rec = find(day, k, rid)
    if rec then return parse(rec, day), day end
  end
  local rec = write_new(today, k, rid, new_record(deadline))
  if rec then return parse(rec, today), today end
end

local function is_bound(k)
  bound = bound or all_bound()
  return bound[field(k, rid)]
end

-- A key that waits for later is in no list, and is not counted with those that are.
local function is_deferred(k, r, day) return call('ZSCORE', P .. 'later', u2(rid) .. entry(r.ver, day, k)) end

local function readmit(k, r, day)
  local ver = (r.ver + 1) % 256
  r.ver, r.class = ver, class
  write(day, k, rid, waiting_record(r, day))
  enlist(day, k, ver, r.deadline)
end

for i = 1, n do
  local k, deadline = ARGV[first + i - 1], deadline_of(i)
  local r, day = admit(k, deadline)
  if not r then
    enlist(today, k, 1, deadline)
    accepted = accepted + 1
  elseif r.state == WAITING and class < r.class and not is_bound(k) and not is_deferred(k, r, day) then
    add_waiting(r.class, rid, -1)
    readmit(k, r, day)
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

for bucket, entries in pairs(lists) do push(class, rid, bucket, entries, false) end
add_waiting(class, rid, accepted + raised + revived)
count(rid, inc, 'a', accepted)
if earliest then ready_after_push(class, rid, earliest) end
if raised > 0 then
  for c = class + 1, 2 do ready_after_claim(c, rid, add_waiting(c, rid, 0)) end
end
wake()
return reply('ok', { accepted, known, raised, revived })
