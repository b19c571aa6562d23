-- depth: what a shard holds.
--
-- Promise: changes nothing; costs the same however much waits. Lanes with work are the lanes with an alarm.
-- Keys: the shard's hash tag.
-- Arguments: now ('' for TIME).
-- Reply: {age of the oldest event in ms, lanes, kept dead letters, {counter, value, …}}.
--@include clock.lua
local tag = KEYS[1]
local oldest = redis.call('ZRANGE', tag .. 'open', 0, 0, 'WITHSCORES')
local age = 0
if oldest[2] then
  age = math.max(0, math.floor(now_us(ARGV[1]) / 1000) - tonumber(oldest[2]))
end
return { age, redis.call('ZCARD', tag .. 'alarms'), redis.call('ZCARD', tag .. 'dead'),
  redis.call('HGETALL', tag .. 'counts') }
