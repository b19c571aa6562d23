-- rouse: what an event waited for has come.
--
-- Promise: an event that waits for a limit, at the head of its lane, is due now, and is to be woken by the caller. One
-- that runs or is about to needs no call. Any other will not come: it has ended, or waits for something else.
-- Keys: the shard's hash tag.
-- Arguments: now ('' for TIME), id, lane, grace in ms.
-- Reply: 'wake', 'coming' or 'gone'.
--@include clock.lua
local tag, id, lane = KEYS[1], ARGV[2], ARGV[3]
local key = tag .. 'event:' .. id
local state, its_lane = unpack(redis.call('HMGET', key, 'state', 'lane'))
if state == 'running' or state == 'queued' then
  return 'coming'
end
if state ~= 'waiting_limit' or its_lane ~= lane then
  return 'gone'
end
local now_ms = math.floor(now_us(ARGV[1]) / 1000)
redis.call('HSET', key, 'due', now_ms)
redis.call('ZADD', tag .. 'alarms', now_ms + tonumber(ARGV[4]), lane)
return 'wake'
