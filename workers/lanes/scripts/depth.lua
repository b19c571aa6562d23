-- depth: what a shard holds.
--
-- Promise: changes nothing; costs the same however much waits. Lanes with work are the lanes with an alarm.
-- Keys: the shard's hash tag.
-- Arguments: now ('' for TIME).
-- Reply: {age of the oldest event in ms, lanes, kept dead letters, {counter, value, …}, lanes whose head could run now, for
--   how long the first of them could have (ms)}.
--@include clock.lua
local tag = KEYS[1]
local oldest = redis.call('ZRANGE', tag .. 'open', 0, 0, 'WITHSCORES')
local now_ms = math.floor(now_us(ARGV[1]) / 1000)
local function age_of(first)
  return first[2] and math.max(0, now_ms - tonumber(first[2])) or 0
end
return { age_of(oldest), redis.call('ZCARD', tag .. 'alarms'), redis.call('ZCARD', tag .. 'dead'),
  redis.call('HGETALL', tag .. 'counts'), redis.call('ZCOUNT', tag .. 'ready', '-inf', now_ms),
  age_of(redis.call('ZRANGE', tag .. 'ready', 0, 0, 'WITHSCORES')) }
