-- resume: lets what was paused go on.
--
-- Promise: lanes that were refused while something was paused (`held`) are looked at by the next sweep, not when their
-- alarm, which has backed off, rings. Bounded work per call; calling again goes on with those that were held at the
-- first look (`releasing`). A lane that is still paused for another reason is refused, and held, again: it waits for
-- the next resume, so this one comes to an end. What ended of a type before it is resumed counts for no flood.
-- Keys: the shard's hash tag.
-- Arguments: now ('' for TIME), what ('type:<type>', 'tenant:<tenant>' or 'queue:<queue>'), limit, 1 at the first look.
-- Reply: {1 when it was paused, lanes still to be released}.
--@include clock.lua
local tag = KEYS[1]
local held, releasing = tag .. 'held', tag .. 'releasing'
local now_ms = math.floor(now_us(ARGV[1]) / 1000)
local was = redis.call('SREM', tag .. 'paused', ARGV[2])
redis.call('DEL', tag .. 'ends:' .. ARGV[2])
if ARGV[4] == '1' and redis.call('EXISTS', held) == 1 then
  if redis.call('EXISTS', releasing) == 1 then -- another resume is under way, or came to no end
    redis.call('SUNIONSTORE', releasing, releasing, held)
    redis.call('DEL', held)
  else
    redis.call('RENAME', held, releasing)
  end
end
for _, lane in ipairs(redis.call('SPOP', releasing, tonumber(ARGV[3]))) do
  if redis.call('EXISTS', tag .. 'lane:' .. lane) == 1 then
    redis.call('HSET', tag .. 'lease:' .. lane, 'grace', 0)
    redis.call('ZADD', tag .. 'alarms', 'LT', now_ms, lane)
    local head = redis.call('LINDEX', tag .. 'lane:' .. lane, 0)
    local state, due = unpack(redis.call('HMGET', tag .. 'event:' .. head, 'state', 'due'))
    if state ~= 'running' and tonumber(due or 0) <= now_ms then
      redis.call('ZADD', tag .. 'ready', 'NX', now_ms, lane)
    end
  end
end
return { was, redis.call('SCARD', releasing) }
