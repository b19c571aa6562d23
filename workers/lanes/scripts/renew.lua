-- renew: keeps a lease for another term.
--
-- Promise: only the worker that holds the lane (owner and epoch) renews it; an expired lease that nobody took is still
-- its. Tells it when the user wants the event stopped.
-- Keys: the shard's hash tag.
-- Arguments: now ('' for TIME), id, lane, owner, epoch, lease in ms.
-- Reply: 'held', 'lost', or the reason of a cancel (held, to be stopped).
--@include clock.lua
local tag, id, lane = KEYS[1], ARGV[2], ARGV[3]
local lease_key = tag .. 'lease:' .. lane
local lease = redis.call('HMGET', lease_key, 'owner', 'epoch')
if lease[1] ~= ARGV[4] or lease[2] ~= ARGV[5] then
  return 'lost'
end
local expiry = math.floor(now_us(ARGV[1]) / 1000) + tonumber(ARGV[6])
redis.call('HSET', lease_key, 'expiry', expiry)
redis.call('ZADD', tag .. 'alarms', expiry, lane)
redis.call('ZREM', tag .. 'ready', lane) -- where the sweep has put it, had the lease run out
return redis.call('HGET', tag .. 'event:' .. id, 'cancel') or 'held'
