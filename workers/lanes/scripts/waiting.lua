-- waiting: notes who waits for a sign-in, and forgets those whose time is over.
--
-- Promise: what nobody asks for any more does not stay: neither a member nor the whole set.
-- Keys: the set, sorted by the end of each member's time.
-- Arguments: now ('' for TIME), how long a member is kept in ms, the members.
-- Reply: how many there are.
--@include clock.lua
local now_ms, kept_ms = math.floor(now_us(ARGV[1]) / 1000), tonumber(ARGV[2])
for i = 3, #ARGV do
  redis.call('ZADD', KEYS[1], now_ms + kept_ms, ARGV[i])
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now_ms)
redis.call('PEXPIRE', KEYS[1], kept_ms)
return redis.call('ZCARD', KEYS[1])
