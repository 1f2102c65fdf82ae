-- 1 member, 2 ms to stay, 3 most members
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local is_new = not redis.call('ZSCORE', KEYS[1], ARGV[1])
if is_new and redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[3]) then
  return redis.error_reply('MSLIMIT too many members')
end
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
-- The key lives as long as the member that vanishes last.
redis.call('PEXPIREAT', KEYS[1], redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2])
return is_new and 1 or 0
