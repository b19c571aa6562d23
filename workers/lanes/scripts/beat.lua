-- beat: a gateway is alive, and so are the readers that it has told of.
--
-- Promise: a gateway of which nothing is known any more (it was taken for gone, or the state has lost it) is told so, and
-- then tells of its readers again.
-- Keys: the shard's hash tag.
-- Arguments: now ('' for TIME), gateway.
-- Reply: 1, or 0 when it was not known.
--@include clock.lua
--@include reading.lua
local gateways = KEYS[1] .. 'gateways'
local known = tonumber(redis.call('ZSCORE', gateways, ARGV[2]) or 0) > 0 -- 0: some of its readers are gone already
redis.call('ZADD', gateways, math.floor(now_us(ARGV[1]) / 1000), ARGV[2])
redis.call('PEXPIRE', gateways, KEPT_MS)
redis.call('PEXPIRE', KEYS[1] .. 'readers:' .. ARGV[2], KEPT_MS)
return known and 1 or 0
