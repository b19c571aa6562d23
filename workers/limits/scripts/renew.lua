-- renew: keeps a reservation in flight for another term.
--
-- Promise: only under its token; one that has run out is not revived.
-- Keys: the limits' hash tag.
-- Arguments: now ('' for TIME), id, token, lease in ms.
-- Reply: 1, or 0 when it is not held.
--@include clock.lua
local tag, id = KEYS[1], ARGV[2]
local key = tag .. 'res:' .. id
local held = redis.call('HMGET', key, 'token', 'model')
if held[1] ~= ARGV[3] then
  return 0
end
redis.call('PEXPIRE', key, ARGV[4])
redis.call('ZADD', tag .. 'flight:' .. held[2], 'XX', math.floor(now_us(ARGV[1]) / 1000) + tonumber(ARGV[4]), id)
return 1
