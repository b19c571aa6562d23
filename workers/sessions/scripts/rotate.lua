-- rotate: spends a refresh token for its successor.
--
-- Promise: a token is spent once. The same token again within the grace, the one that was spent last, gets the salt of
-- the first time and so the same successor; any other spent one revokes the session. Who does not know the family of the
-- session's tokens changes nothing.
-- Keys: the shard's hash tag.
-- Arguments: now ('' for TIME), session, digest of the family, digest of the token, digest of the successor, its salt,
--   idle time in ms, grace in ms, channel of revocations, how long these are kept in ms.
-- Reply: {'rotated' or 'again', salt, tenant, user, end in ms}, {'reused'}, {'invalid'}, {'revoked'} or {'unknown'}.
--@include clock.lua
--@include live.lua
--@include revoking.lua
local tag, session, given = KEYS[1], ARGV[2], ARGV[4]
local now_ms, idle_ms, grace_ms = math.floor(now_us(ARGV[1]) / 1000), tonumber(ARGV[7]), tonumber(ARGV[8])
local found = live(tag, session, now_ms, idle_ms)
if not found then
  return { is_revoked(tag, session) and 'revoked' or 'unknown' }
end
if found.family ~= ARGV[3] then
  return { 'invalid' }
end
if found.good == given then
  redis.call('HSET', tag .. session, 'h', ARGV[5])
  touch(tag, session, found.ends, now_ms, idle_ms)
  if grace_ms > 0 then
    local spent = tag .. 'spent:' .. session
    redis.call('HSET', spent, 'h', given, 'salt', ARGV[6], 'until', now_ms + grace_ms)
    redis.call('PEXPIRE', spent, grace_ms)
  end
  return { 'rotated', ARGV[6], found.tenant, found.user, found.ends }
end
local spent, salt, within = unpack(redis.call('HMGET', tag .. 'spent:' .. session, 'h', 'salt', 'until'))
if spent == given and now_ms < tonumber(within) then
  return { 'again', salt, found.tenant, found.user, found.ends }
end
revoke(tag, session, now_ms)
announce(tag, ARGV[9], now_ms, tonumber(ARGV[10]), { session })
return { 'reused' }
