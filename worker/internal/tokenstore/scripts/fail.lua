-- Shares a failure and frees the lock. The token that is shared stays: it may be good for a while yet.
-- KEYS[1] the lock, KEYS[2] the failure. ARGV[1] the holder, ARGV[2] the failure, ARGV[3] ms that it is not asked again.
-- Returns 1, or 0 where the lock is no longer the holder's: then nothing is changed. O(1).
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
redis.call('DEL', KEYS[1])
return 1
