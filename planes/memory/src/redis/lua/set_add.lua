-- 1 ms to live (0: as it is), 2 most members, 3… members
local limit, size = tonumber(ARGV[2]), redis.call('SCARD', KEYS[1])
if size + #ARGV - 2 > limit then
  local seen = {}
  for i = 3, #ARGV do
    if not seen[ARGV[i]] and redis.call('SISMEMBER', KEYS[1], ARGV[i]) == 0 then size = size + 1 end
    seen[ARGV[i]] = true
  end
  if size > limit then return redis.error_reply('MSLIMIT too many members') end
end
local added = redis.call('SADD', KEYS[1], unpack(ARGV, 3))
if ARGV[1] ~= '0' then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return added
