-- reader: a gateway has readers of an event, or followers of a thread, or none any more.
--
-- Promise: saying it again changes nothing. An event whose last reader goes, wherever that was, is noted with the time
-- (`left`), for `abandon`; one that is read again is not. Of an event that has ended, or is no turn, nothing is kept.
-- Keys: the shard's hash tag.
-- Arguments: now ('' for TIME), gateway, 'e:<event>' or 'l:<lane>', 1 when there are some.
-- Reply: 1.
--@include clock.lua
--@include reading.lua
local tag, gateway, what = KEYS[1], ARGV[2], ARGV[3]
local now_ms, mine = math.floor(now_us(ARGV[1]) / 1000), tag .. 'readers:' .. ARGV[2]
if ARGV[4] ~= '1' then
  redis.call('SREM', mine, what)
  note_gone(tag, what, now_ms)
  return 1
end
local id = string.match(what, '^e:(.*)$')
local turn, ended = unpack(redis.call('HMGET', tag .. 'event:' .. (id or ''), 'turn', 'ended'))
if not id or (turn == '1' and not ended) then
  redis.call('ZADD', tag .. 'gateways', 'NX', now_ms, gateway)
  redis.call('SADD', mine, what)
  redis.call('PEXPIRE', mine, KEPT_MS)
  redis.call('ZREM', tag .. 'left', id or '')
end
return 1
