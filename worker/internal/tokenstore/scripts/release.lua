-- Frees a lock.
-- KEYS[1] the lock. ARGV[1] its holder.
-- Returns 1, or 0 where the lock is no longer the holder's. O(1).
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
