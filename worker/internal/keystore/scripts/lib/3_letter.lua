-- Dead letters.

local graves, grave_order = {}, {}

-- A key dies: its record is written at once, its dead letter when the script ends (bury).
local function die(rid, day, k, r, code, message, request, batch)
  local g = table.concat({ rid, code, message, request, r.inc, r.class, r.att, r.amb, int(batch) }, '\n')
  if not graves[g] then
    graves[g] = { rid = rid, code = code, message = message, request = request, inc = r.inc, class = r.class,
      att = r.att, amb = r.amb, batch = batch, reason = reason_of(code, message), keys = {} }
    grave_order[#grave_order + 1] = g
  end
  local grave = graves[g]
  write(day, k, rid, record(DEAD, r, day) .. u5(batch) .. u2(grave.reason))
  grave.keys[#grave.keys + 1] = { k, r.deadline }
end

-- Takes back who died in a batch whose settlement failed: it will be sent again.
local function forget_graves(batch)
  for i = #grave_order, 1, -1 do
    local g = grave_order[i]
    if graves[g].batch == batch then
      graves[g] = nil
      table.remove(grave_order, i)
    end
  end
end

local function net(s) s = tostring(s) return #s .. ':' .. s end

-- Puts the dead into the outbox, from which they become tasks. outbox.go reads what this writes.
local function bury()
  for i, g in ipairs(grave_order) do
    local grave = graves[g]
    local head = net(name_of('robot', grave.rid)) .. net(grave.code) .. net(grave.message) .. net(grave.request) ..
      net(name_of('incident', grave.inc)) .. net(grave.class) .. net(grave.att) .. net(grave.amb) .. net(int(grave.batch)) .. net(int(now)) .. net(life)
    for at = 1, #grave.keys, letter_size do
      local body = { head }
      for j = at, math.min(at + letter_size - 1, #grave.keys) do
        body[#body + 1] = net(grave.keys[j][1]) .. net(int(grave.keys[j][2]))
      end
      call('HSET', P .. 'outbox', int(grave.batch) .. ':' .. i .. ':' .. at, table.concat(body))
    end
    count(grave.rid, grave.inc, 'd', #grave.keys)
  end
  graves, grave_order = {}, {}
end

-- What a call came to, kept once for its keys: when, and the request's id.
local function remember_call(batch, request)
  local key = format('%scall:%d', P, floor(batch / 100))
  call('HSET', key, int(batch % 100), int(now) .. ' ' .. request)
  if key ~= known.calls then expire(key, today) end
  known.calls = key
end

local function next_batch() return tonumber(call('HINCRBY', KEYS[1], 'batch', 1)) end
