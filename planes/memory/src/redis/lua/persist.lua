redis.call('PERSIST', KEYS[1])
-- Whether there is the key, not whether it had an end.
return redis.call('EXISTS', KEYS[1])
