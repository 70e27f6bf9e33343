-- lookup.lua: what became of keys. Reads only.
--
-- ARGV (after those of 0_base.lua): robot code, '' = under whatever robot; then the keys, at most 200.
-- Returns for each key an array of rows (one for each robot that has it, none when it is not known):
--   robot, state (1 waiting, 2 recalled, 3 dead, 4 cancelled, 5 bound), class, ambiguous, attempts, incident, deadline s,
--   reason ("code\nmessage"), call ("ms request-id"), batch in which it died, 0 = it is not dead

local days = call('SMEMBERS', P .. 'days')
table.sort(days, function(a, b) return tonumber(a) > tonumber(b) end)
local bound = all_bound()
local robots, incidents, calls, reasons = {}, {}, {}, {}

local function cached(cache, kind, id)
  cache[id] = cache[id] or name_of(kind, id)
  return cache[id]
end

-- Keys of one call stand side by side in a file, as a rule.
local function call_of(batch)
  local b = int(batch)
  calls[b] = calls[b] or call('HGET', P .. 'call:' .. floor(batch / 100), int(batch % 100)) or ''
  return calls[b]
end

local function reason_text(id)
  reasons[id] = reasons[id] or call('HGET', P .. 'reason:text', id) or ''
  return reasons[id]
end

local function describe(k, rid, rec, day)
  local r = parse(rec, day)
  local state, reason, when, batch = r.state, '', '', 0
  if state == WAITING then
    local item = bound[field(k, rid)]
    if item then state, r.att, r.amb = 5, item.att, item.amb end
  else
    when = call_of(r5(rec, 9))
    if state == DEAD then reason, batch = reason_text(r2(rec, 14)), r5(rec, 9) end
  end
  return { cached(robots, 'robot', rid), state, r.class, r.amb, r.att, cached(incidents, 'incident', r.inc), r.deadline, reason, when, int(batch) }
end

local function under_any(day, k)
  local l, rows = ledger(day), {}
  if l.b == 0 then return rows end
  local all = call('HGETALL', bucket_key(l, k))
  for i = 1, #all, 2 do
    if #all[i] == #k + 2 and sub(all[i], 1, #k) == k then rows[#rows + 1] = { r2(all[i], #k + 1), record_of(day, all[i + 1]) } end
  end
  return rows
end

local out = {}
local robot = ARGV[ARGS + 1]
local rid = robot ~= '' and tonumber(call('HGET', P .. 'robot:id', robot) or 0) or 0
for i = ARGS + 2, #ARGV do
  local k, rows, seen = ARGV[i], {}, {}
  for _, d in ipairs(days) do
    local day = tonumber(d)
    if robot == '' then
      for _, found in ipairs(under_any(day, k)) do
        if not seen[found[1]] then
          seen[found[1]] = true
          rows[#rows + 1] = describe(k, found[1], found[2], day)
        end
      end
    elseif rid > 0 then
      local rec = find(day, k, rid)
      if rec then
        rows[1] = describe(k, rid, rec, day)
        break
      end
    end
  end
  out[#out + 1] = rows
end
return out
