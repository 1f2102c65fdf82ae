-- 1 how much, 2 ms to live from creation on
local is_new = redis.call('EXISTS', KEYS[1]) == 0
redis.call('INCRBY', KEYS[1], ARGV[1])
if is_new then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
-- As text: a number of Lua would lose digits beyond 2^53.
return redis.call('GET', KEYS[1])
