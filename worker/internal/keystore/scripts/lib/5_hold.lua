-- Holds: an app, or one of its robots, at rest until somebody or some time releases it.
--
-- A refusal that may be the robot's own (the permission, say) holds the app and marks the robot, so that the app's next probe is another
-- robot's, where there is one. If that succeeds only the robot stays held, with probes of its own. Where the app has shown after the
-- refused call that it may call for another robot, only the robot is held at all. The same once such a probe has ended a hold: what then is
-- refused for the same reason is a robot's own, as long as others succeed in between.

-- A robot that is held, or nil. The batch is that of its probe, 0 = none is under way.
local function held_robot(rid)
  if meta.robots == 0 then return nil end
  local v = call('HGET', P .. 'heldrobots', rid)
  if not v then return nil end
  local till, every, since, batch, code, message = string.match(v, '^(%d+) (%d+) (%d+) (%d+)\n(.-)\n(.*)$')
  return { till = tonumber(till), every = tonumber(every), since = tonumber(since), batch = tonumber(batch), code = code, message = message }
end

local function save_held(rid, h)
  known.held_codes = nil
  call('HSET', P .. 'heldrobots', rid, int(h.till) .. ' ' .. int(h.every) .. ' ' .. int(h.since) .. ' ' .. int(h.batch) .. '\n' ..
    h.code .. '\n' .. h.message)
  meta.robots = tonumber(call('HLEN', P .. 'heldrobots'))
  call('HSET', KEYS[1], 'heldrobots', meta.robots)
end

-- How long it is until the next probe when one has failed: twice as long, or what the answer to it asks for.
local function longer(first, every) return math.max(first, math.min(probe_max, every * 2)) end

-- Has a robot rest. Calls that were under way when it was held change nothing. Returns true where that is news.
local function hold_robot(s, code, message, first)
  local h = held_robot(s.rid)
  if h and h.batch ~= s.batch then return false end
  local news = not h or h.code ~= code
  local every = h and longer(first, h.every) or first
  save_held(s.rid, { till = now + every, every = every, since = h and h.since or now, batch = 0, code = code, message = message })
  return news
end

-- Marks a robot as one that the app was held for: it is not tried before the app's next probe but one.
local function mark_robot(s, code, message, every)
  local h = held_robot(s.rid)
  save_held(s.rid, { till = now + every, every = every, since = h and h.since or now, batch = 0, code = code, message = message })
end

local function release_robot(rid)
  if call('HDEL', P .. 'heldrobots', rid) == 0 then return false end
  known.held_codes = nil
  meta.robots = tonumber(call('HLEN', P .. 'heldrobots'))
  call('HSET', KEYS[1], 'heldrobots', meta.robots)
  for class = 0, 2 do
    if call('ZSCORE', READY[class], rid) then set_ready(class, rid, now) end
  end
  return true
end

-- Has every held robot be tried once, now: what held them may have been the app.
local function retry_robots()
  if meta.robots == 0 then return end
  for _, rid in ipairs(call('HKEYS', P .. 'heldrobots')) do
    local h = held_robot(rid)
    h.till = now
    save_held(rid, h)
    for class = 0, 2 do
      if call('ZSCORE', READY[class], rid) then set_ready(class, rid, now) end
    end
  end
end

-- Puts the app at rest. When a probe of a held app fails, the time until the next one grows; calls that were under way when the app was
-- held change nothing. Returns true where that is news.
local function hold_app(s, code, message, first)
  local held = meta.held > 0
  if held and meta.probe ~= s.batch then return false end
  local v = call('HMGET', KEYS[1], 'hold_code', 'hold_every')
  local every = held and longer(first, tonumber(v[2])) or first
  meta.held, meta.probe = now + every, 0
  if not held then call('HSET', KEYS[1], 'hold_since', int(now)) end
  call('HSET', KEYS[1], 'hold_code', code, 'hold_message', message, 'hold_every', int(every), 'hold_until', int(now + every))
  call('HDEL', KEYS[1], 'hold_probing')
  return v[1] ~= code, every
end

-- Whether another robot's key was recalled by a call that had its permit after the one of s: the app may call.
local function others_may(s)
  local v = call('HMGET', KEYS[1], 'ok_rid', 'ok_from')
  return v[1] and tonumber(v[1]) ~= s.rid and tonumber(v[2]) > s.at
end

-- Whether a refusal with this code is taken to be the robot's own, since another robot's probe ended a hold of the app for it. After five
-- in a row without a success in between it may be the app again.
local function is_own(code)
  local v = call('HMGET', KEYS[1], 'own_code', 'own_n', 'own_ok', 'ok_from')
  if v[1] ~= code then return false end
  local n = tonumber(v[2])
  if (v[4] or '') ~= v[3] then n = 0 end
  if n >= 5 then return false end
  call('HSET', KEYS[1], 'own_n', n + 1, 'own_ok', v[4] or '')
  return true
end

-- Whether keys of another robot wait that is not held, and may be called for this month.
local function another_waits(rid)
  for class = 0, 2 do
    if may_call(class) then
      for _, other in ipairs(call('ZRANGE', READY[class], 0, 9)) do
        if tonumber(other) ~= rid and not held_robot(other) then return true end
      end
    end
  end
  return false
end

-- Where it may be the robot alone that is refused, and another one waits, its call says which: the first probe goes soon, lest all
-- robots rest for one. The next one goes when the first would have gone else.
local SOON = 1000
local function probe_soon(first)
  if first <= SOON then return end
  meta.held = now + SOON
  call('HSET', KEYS[1], 'hold_every', int(floor(first / 2)), 'hold_until', int(meta.held))
end

-- Holds what a refused call says is to be held. hold_told remembers, for whoever logs it, which batches of this script run said something new, and
-- whether of the robot alone: a line for each.
local function hold(s, code, message, first, perhaps_robot)
  local news, every
  local robot = perhaps_robot and meta.held == 0 and (held_robot(s.rid) or others_may(s) or is_own(code))
  if robot then
    news = hold_robot(s, code, message, first)
  else
    local held = meta.held > 0
    news, every = hold_app(s, code, message, first)
    if perhaps_robot and every then
      mark_robot(s, code, message, every)
      if not held and another_waits(s.rid) then probe_soon(first) end
    end
  end
  if not news then return end
  known.told = known.told .. int(s.batch) .. (robot and ' robot\n' or ' app\n')
  call('HSET', KEYS[1], 'hold_told', known.told)
end

local function end_hold()
  meta.held, meta.probe = 0, 0
  call('HDEL', KEYS[1], 'hold_code', 'hold_message', 'hold_every', 'hold_until', 'hold_since', 'hold_probing')
end

local function release()
  if meta.held == 0 then return false end
  end_hold()
  retry_robots()
  return true
end

-- The call of a batch was answered as it should: where it was a probe, that ends the hold. The robots that the app was held for are
-- tried once more; not where it was held for others of them before, and was let go like this: then they are what is refused.
local function answered(s)
  local h = held_robot(s.rid)
  if h and h.batch == s.batch then release_robot(s.rid) end
  if meta.held == 0 or meta.probe ~= s.batch then return end
  local v = call('HMGET', KEYS[1], 'hold_code', 'own_code', 'ok_from')
  end_hold()
  if v[1] ~= v[2] or h then retry_robots() end
  if meta.robots == 0 or h then return end
  call('HSET', KEYS[1], 'own_code', v[1], 'own_n', 0, 'own_ok', v[3] or '')
end

-- A batch that is bound to a slot is the one call that may be spent on what is held; the next one is put off. Not for longer than
-- is usual between probes, even where the app was held for a month: this one may be lost with its worker.
local function probe(rid, batch)
  if meta.held > 0 then
    local every = math.min(probe_max, tonumber(call('HGET', KEYS[1], 'hold_every') or 60000))
    meta.held, meta.probe = now + every, batch
    call('HSET', KEYS[1], 'hold_until', int(meta.held), 'hold_probing', int(batch))
  end
  local h = held_robot(rid)
  if h then
    h.till, h.batch = now + math.min(probe_max, h.every), batch
    save_held(rid, h)
  end
end

-- A probe that comes to nothing yet goes on under another number.
local function probe_goes_on(rid, batch, as)
  if meta.held > 0 and meta.probe == batch then
    meta.probe = as
    call('HSET', KEYS[1], 'hold_probing', int(as))
  end
  local h = held_robot(rid)
  if h and h.batch == batch then
    h.batch = as
    save_held(rid, h)
  end
end

-- Whether the batch of a slot may not be called, since the app or its robot is held and it is no probe.
local function held_off(s)
  local h = held_robot(s.rid)
  return meta.held > now and meta.probe ~= s.batch or h ~= nil and h.till > now and h.batch ~= s.batch
end

-- Whether a robot is held, or another conversation of it.
local kin_held
do
  local function code_of(rid) return string.match(name_of('robot', rid), '^[^\31]*') end

  function kin_held(rid)
    if not known.held_codes then
      known.held_codes = {}
      for _, other in ipairs(call('HKEYS', P .. 'heldrobots')) do known.held_codes[code_of(other)] = true end
    end
    return known.held_codes[code_of(rid)]
  end
end

-- Whether a robot is not to be called now; then it is looked at again at its next probe. avoid: nor when its probe is due, for the
-- probe of its app is better made with another; nor with another conversation of it.
local function skip_held(class, rid, avoid)
  local h = held_robot(rid)
  local till = h and h.till or 0
  if till <= now and not (avoid and kin_held(rid)) then return false end
  set_ready(class, rid, math.max(till, now + 1))
  return true
end
