-- resume: lets what was paused go on.
--
-- Promise: lanes that were refused while something was paused (`held`) are looked at by the next sweep, not when their
-- alarm, which has backed off, rings. Bounded work per call; calling again goes on. A lane that is still paused for
-- another reason is refused, and held, again.
-- Keys: the shard's hash tag.
-- Arguments: now ('' for TIME), what ('type:<type>', 'tenant:<tenant>' or 'queue:<queue>'), limit.
-- Reply: {1 when it was paused, lanes still held}.
--@include clock.lua
local tag = KEYS[1]
local now_ms = math.floor(now_us(ARGV[1]) / 1000)
local was = redis.call('SREM', tag .. 'paused', ARGV[2])
for _, lane in ipairs(redis.call('SPOP', tag .. 'held', tonumber(ARGV[3]))) do
  if redis.call('EXISTS', tag .. 'lane:' .. lane) == 1 then
    redis.call('HSET', tag .. 'lease:' .. lane, 'grace', 0)
    redis.call('ZADD', tag .. 'alarms', 'LT', now_ms, lane)
  end
end
return { was, redis.call('SCARD', tag .. 'held') }
