-- wanted: notes how many workers are needed now, and says how many were at most within a while.
--
-- Promise: whoever looks, all gateways see the same. When nobody has looked for a time, the while begins anew: what nobody
-- saw was not idle. One member for each number, so it stays small, and all of it goes when nobody looks any more.
-- Keys: the hash tag of the figures.
-- Arguments: now ('' for TIME), how many are needed, the while in ms, how long nobody may look in ms.
-- Reply: the most, or -1 as long as the while has not passed.
--@include clock.lua
local wanted, watched = KEYS[1] .. 'wanted', KEYS[1] .. 'watched'
local now_ms, while_ms = math.floor(now_us(ARGV[1]) / 1000), tonumber(ARGV[3])
redis.call('ZREMRANGEBYSCORE', wanted, '-inf', now_ms - while_ms)
redis.call('ZADD', wanted, now_ms, ARGV[2])
redis.call('SET', watched, now_ms, 'NX')
redis.call('PEXPIRE', wanted, ARGV[4])
redis.call('PEXPIRE', watched, ARGV[4])
if now_ms - tonumber(redis.call('GET', watched)) < while_ms then
  return -1
end
local most = 0
for _, number in ipairs(redis.call('ZRANGE', wanted, 0, -1)) do
  most = math.max(most, tonumber(number))
end
return most
