-- 0_base.lua: what every script of the key store shares. The files of this folder are put in front of each script, in order.
--
-- KEYS[1]  <prefix>meta. Every other name begins with the same prefix, whose hash tag is the app, so that all
--          keys of a script live on one node. Names that depend on data (a bucket of the ledger, a list of
--          waiting keys) can only be known in here; keys.go lists them all.
-- ARGV[1]  now, ms since the epoch; '' for Redis's own clock (always so outside tests: workers' clocks jump)
-- ARGV[2]  slots that may call at once          ARGV[3]  slots in all, those that wait out a backoff included
-- ARGV[4]  linger, ms                           ARGV[5]  life of a key: window less margin, s
-- ARGV[6]  what the ledger outlives its day by, s
-- ARGV[7]  time between two calls of the app, microseconds; 0 = no limit
-- ARGV[8]  most keys of one dead letter         ARGV[9]  longest time between two probes of a held app, ms
-- ARGV[10] the month's calls: see 5_budget.lua
-- ARGV[11] how long a call keeps another from being made in its place, ms: see 6_slot.lua
--
-- Every reply is an array:
--   1 status ('ok', 'batch', 'idle', 'due', 'held', 'stale', 'refused')
--   2 due slots as slot, generation, slot, generation, ...
--   3 the next moment at which a wake-up is owed, ms, 0 = none
--   4 dead letters in the outbox        5 now, microseconds        6 what the script adds

local P = string.sub(KEYS[1], 1, -5)
local call, floor, char, byte, sub, format = redis.call, math.floor, string.char, string.byte, string.sub, string.format
local FULL, DAY, BUCKET = 20, 86400, 300
local WAITING, RECALLED, DEAD, CANCELLED = 1, 2, 3, 4
local ARGS = 11

local function clock()
  if ARGV[1] ~= '' then return tonumber(ARGV[1]), tonumber(ARGV[1]) * 1000 end
  local t = call('TIME')
  local us = tonumber(t[1]) * 1000000 + tonumber(t[2])
  return floor(us / 1000), us
end

local now, now_us = clock()
local today = floor(now / (DAY * 1000))
local max_slots, cap_slots = tonumber(ARGV[2]), tonumber(ARGV[3])
local linger, life, ledger_ttl = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local interval, letter_size, probe_max = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local stuck_after = tonumber(ARGV[11])

-- A whole number as text. Numbers over 14 digits lose digits when Lua turns them into text by itself, and all take several times as long.
local function int(n) return format('%d', n) end

-- What nearly every script needs of the app's own hash, read in one go. Whoever writes a field there sets it here as well.
local meta
do
  local v = call('HMGET', KEYS[1], 'waiting', 'hold_code', 'hold_until', 'ok_from', 'tat', 'pace', 'stale',
    'hold_probing', 'heldrobots')
  meta = {
    waiting = tonumber(v[1] or 0),               -- keys that wait for their turn (not those that wait for later)
    held = v[2] and tonumber(v[3]) or 0,         -- 0: the app is not held; else the moment from which a probe may go
    ok_from = floor(tonumber(v[4] or 0) / 1000), -- when the call began that last recalled a key, ms
    tat = tonumber(v[5] or 0),                   -- the limiter: when the next permit is, microseconds
    probe = tonumber(v[8] or 0),                 -- the batch that is the held app's probe, 0 = none
    robots = tonumber(v[9] or 0),                -- how many robots are held
    pace = v[6] or nil,                          -- what throttle answers have made of the rate: see 5_limit.lua
    stale = tonumber(v[7] or 0),                 -- places in waiting lists that no longer count: see 4_waiting.lua
  }
end

-- What this run of a script has found out and need not ask again: names by kind and number; classes of which nothing is ready now; the marks of
-- dead robots, false where there is none; the codes of robots of which something is held; where the last call was remembered; how many
-- turns were given; which batches said something new of what is held.
local known = { names = {}, none_ready = {}, marks = {}, held_codes = nil, calls = nil, turns = 0, told = '' }

local function u2(n) return char(floor(n / 256) % 256, n % 256) end
local function u3(n) return char(floor(n / 65536) % 256, floor(n / 256) % 256, n % 256) end
local function u5(n)
  return char(floor(n / 4294967296) % 256, floor(n / 16777216) % 256) .. u3(n % 16777216)
end
local function r2(s, i) local a, b = byte(s, i, i + 1) return a * 256 + b end
local function r3(s, i) local a, b, c = byte(s, i, i + 2) return a * 65536 + b * 256 + c end
local function r5(s, i) local a, b = byte(s, i, i + 1) return a * 4294967296 + b * 16777216 + r3(s, i + 2) end

-- A day from its number modulo 250: no ledger is kept for that long. A day ahead is meant where Redis's clock was set back
-- over midnight, as in a failover to a machine that is a little behind.
local function full_day(m)
  local d = today - (today - m) % 250
  if today - d > 225 then d = d + 250 end
  return d
end

local function clamp(n, top) if n < 0 then return 0 elseif n > top then return top end return floor(n) end
