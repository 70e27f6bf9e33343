-- Shares a token, forgets a failure and frees the lock.
-- KEYS[1] the lock, KEYS[2] the token, KEYS[3] the failure. ARGV[1] the holder, ARGV[2] the token, ARGV[3] ms that it lives; 0 or less: it is
-- over already, and none is shared.
-- Returns 1, or 0 where the lock is no longer the holder's: then nothing is changed. O(1).
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if tonumber(ARGV[3]) > 0 then
  redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
else
  redis.call('DEL', KEYS[2])
end
redis.call('DEL', KEYS[3], KEYS[1])
return 1
