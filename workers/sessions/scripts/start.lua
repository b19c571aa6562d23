-- start: makes a session.
--
-- Promise: the same session again (a start that is run once more) takes the new refresh token and no other; one that was
-- revoked is not made again.
-- Keys: the shard's hash tag.
-- Arguments: now ('' for TIME), session, tenant, user, digest of the family, digest of the refresh token, lifetime in ms,
--   idle time in ms.
-- Reply: {'started', end in ms} or {'revoked'}.
--@include clock.lua
--@include live.lua
local tag, session = KEYS[1], ARGV[2]
if is_revoked(tag, session) then
  return { 'revoked' }
end
local now_ms = math.floor(now_us(ARGV[1]) / 1000)
local ends = now_ms + tonumber(ARGV[7])
redis.call('HSET', tag .. session, 't', ARGV[3], 'u', ARGV[4], 'c', now_ms, 'x', ends, 'f', ARGV[5], 'h', ARGV[6])
touch(tag, session, ends, now_ms, tonumber(ARGV[8]))
redis.call('ZADD', tag .. 'sessions', 0, session)
redis.call('DEL', tag .. 'spent:' .. session)
return { 'started', ends }
