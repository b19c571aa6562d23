-- rouse: what an event waited for has come.
--
-- Promise: an event that waits for a limit, at the head of its lane, is due now, and is to be woken by the caller. One
-- that runs or is about to needs no call. Any other will not come: it has ended, waits for something else, or is
-- paused. A paused one is due as soon as it is resumed, and then asks for what it needs anew: whoever waits behind it
-- must not be held up by what it does not take.
-- Keys: the shard's hash tag.
-- Arguments: now ('' for TIME), id, lane, grace in ms.
-- Reply: 'wake', 'coming' or 'gone'.
--@include clock.lua
--@include paused.lua
local tag, id, lane = KEYS[1], ARGV[2], ARGV[3]
local key = tag .. 'event:' .. id
local state, its_lane, type, tenant, queue = unpack(redis.call('HMGET', key, 'state', 'lane', 'type', 'tenant', 'queue'))
if state == 'running' then
  return 'coming'
end
if (state ~= 'waiting_limit' and state ~= 'queued') or its_lane ~= lane then
  return 'gone'
end
local paused = is_paused(tag, lane, type, tenant, queue)
if state == 'queued' then
  return paused and 'gone' or 'coming'
end
local now_ms = math.floor(now_us(ARGV[1]) / 1000)
redis.call('HSET', key, 'due', now_ms)
if paused then
  return 'gone'
end
redis.call('ZADD', tag .. 'alarms', now_ms + tonumber(ARGV[4]), lane)
redis.call('ZADD', tag .. 'ready', now_ms, lane)
return 'wake'
