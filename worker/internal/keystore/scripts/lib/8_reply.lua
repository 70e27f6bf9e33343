-- Wake-ups and replies.

-- Makes as many idle slots due as the keys that are ready could use. Those that have a call under way are not counted on: it
-- may hang until it times out; while it does, another may be made in its place, up to the cap.
local function wake()
  if meta.waiting <= 0 then return end
  local slots = slots_now()
  local live = slots.all - slots.stuck -- a dead worker's may be more than this one thinks are enough
  local free = math.min(max_slots - (slots.all - slots.slow - slots.held), cap_slots - live, MOST_SLOTS - slots.all)
  if free <= 0 then return end
  local hold = meta.held
  if hold > now or rest_until() > 0 then return end
  local ready = 0
  for class = 0, 2 do
    if may_call(class) then ready = ready + call('ZCOUNT', READY[class], '-inf', int(now)) end
  end
  if ready == 0 then return end
  local want = ready
  if may_call(2) then want = math.max(ready, math.ceil(meta.waiting / FULL)) end -- else how many of them may be called is not known
  if hold > 0 then want = 1 end
  want = math.min(free, want - call('HLEN', P .. 'due'))
  if want <= 0 then return end
  local busy = {}
  for _, i in ipairs(call('HKEYS', P .. 'slots')) do busy[tonumber(i)] = true end
  for i = 1, math.min(MOST_SLOTS, cap_slots + slots.stuck) do
    if want <= 0 then break end
    if not busy[i] then
      make_due(load_slot(i))
      want = want - 1
    end
  end
end

-- The next moment at which somebody must look again, though no task is owed now.
local function next_moment()
  if unswept then return now end
  local t = 0
  local function sooner(at) if at and (t == 0 or at < t) then t = at end end
  local hold = math.max(meta.held, rest_until())
  for class = 0, 2 do
    local r = call('ZRANGEBYSCORE', READY[class], '(' .. int(now), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
    sooner(tonumber(r[2]))
  end
  local l = call('ZRANGE', P .. 'later', 0, 0, 'WITHSCORES')
  sooner(tonumber(l[2]))
  if meta.waiting > 0 then -- the month's calls are spent, or those of the classes behind
    local turns = month_end(2)
    if turns > 0 then sooner(turns) end
    hold = math.max(hold, month_end(0))
  end
  if hold > now then
    if meta.waiting > 0 then t = hold elseif t > 0 then t = math.max(hold, t) end
  end
  return math.ceil(t) -- turns are finer than milliseconds, and may lie ahead where the clock was set back
end

-- calling: a call follows, and then another script, which tells the next moment.
local function reply(status, extra, calling)
  bury()
  save_ledgers()
  local at = 0
  if status ~= 'batch' and not calling then at = next_moment() end
  return { status, call('HGETALL', P .. 'due'), at, call('HLEN', P .. 'outbox'), now_us, extra or {} }
end

-- Wakes slots for what waits, and replies.
local function finish(status, extra, calling)
  wake()
  return reply(status, extra, calling)
end

-- The batch that a slot holds, for whoever is to call: number, run, robot, how many of the keys to call, tries so far,
-- note, microseconds until the permit, when the app's last call began that recalled a key, the keys.
local function with_batch(s)
  return 'batch', { s.batch, s.run, name_of('robot', s.rid), s.cut, s.tries, s.note, math.max(0, s.at - now_us), meta.ok_from, s.keys }
end

-- Goes on with a slot that holds no batch: the next one, or idle, or due again.
local function go_on(s)
  local got = claim(s)
  if got == 'batch' then
    if s.state ~= 'running' then set_state(s, 'running') end
    return with_batch(s)
  end
  drop_batch(s)
  if got == 'more' then
    make_due(s)
  else
    set_state(s, 'idle')
  end
  return s.state
end
