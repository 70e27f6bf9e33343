-- Numbers for names.

local MOST = 65535 -- names of a kind: their numbers have two bytes in the records

-- A small number for a name (a robot, an incident), made at first sight; kind is 'robot' or 'incident'. When the numbers run
-- out, incidents that are new share the last one, since nothing is called by them; robots that are new are refused.
local function id_of(kind, name)
  local id = call('HGET', P .. kind .. ':id', name)
  if id then return tonumber(id) end
  if tonumber(call('HGET', KEYS[1], kind) or 0) >= MOST - 1 then
    if kind == 'robot' then error('target.limit: an app can have ' .. MOST - 1 .. ' robots and conversations, and has them: ' .. name .. ' is too many') end
    call('HSET', P .. kind .. ':name', MOST, '(further incidents)')
    return MOST
  end
  id = call('HINCRBY', KEYS[1], kind, 1)
  call('HSET', P .. kind .. ':id', name, id)
  call('HSET', P .. kind .. ':name', id, name)
  return id
end

local function name_of(kind, id)
  if id == 0 then return '' end
  local key = kind .. id
  known.names[key] = known.names[key] or call('HGET', P .. kind .. ':name', id) or ''
  return known.names[key]
end

-- A number for a reason ("code\nmessage"). 0 when there are too many different ones: the dead letter has the text.
local function reason_of(code, message)
  local text = code .. '\n' .. message
  local id = call('HGET', P .. 'reason:id', text)
  if id then return tonumber(id) end
  id = tonumber(call('HGET', KEYS[1], 'reason') or 0) + 1
  if id > 4000 then
    text = code .. '\n'
    local short = call('HGET', P .. 'reason:id', text)
    if short then return tonumber(short) end
    if id > 5000 then return 0 end
  end
  call('HSET', KEYS[1], 'reason', id)
  call('HSET', P .. 'reason:id', text, id)
  call('HSET', P .. 'reason:text', id, text)
  return id
end
