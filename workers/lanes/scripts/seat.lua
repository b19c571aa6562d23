-- seat: an event that has to wait for a limit does so before any worker has looked at it.
--
-- Promise: only for the head of a lane that was accepted and that nobody has begun. Anything else stays as it is.
-- Keys: the shard's hash tag.
-- Arguments: now ('' for TIME), id, lane, delay in ms, reason.
-- Reply: 1, or 0 when it stays as it is.
--@include clock.lua
local tag, id, lane = KEYS[1], ARGV[2], ARGV[3]
local key = tag .. 'event:' .. id
local state, started = unpack(redis.call('HMGET', key, 'state', 'started'))
if state ~= 'queued' or started or redis.call('LINDEX', tag .. 'lane:' .. lane, 0) ~= id then
  return 0
end
local now_ms = math.floor(now_us(ARGV[1]) / 1000)
local due = now_ms + tonumber(ARGV[4])
redis.call('HSET', key, 'state', 'waiting_limit', 'reason', ARGV[5], 'due', due, 'since', now_ms, 'attempt', 1)
redis.call('ZADD', tag .. 'alarms', due, lane)
redis.call('ZREM', tag .. 'ready', lane)
redis.call('HINCRBY', tag .. 'counts', 'queued', -1)
redis.call('HINCRBY', tag .. 'counts', 'waiting_limit', 1)
return 1
