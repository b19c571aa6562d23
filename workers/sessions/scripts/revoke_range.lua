-- revoke_range: ends the sessions of a user, of a tenant, or of everybody, some hundred at a time.
--
-- Promise: each of those that the range held and that are the tenant's is revoked, as by `revoke`. (Ids of one user are
-- no other's, but two tenants may share their part.) Ids whose sessions are gone leave the index.
-- Keys: the shard's hash tag.
-- Arguments: now ('' for TIME), channel of revocations, how long these are kept in ms, least and greatest id as
--   ZRANGEBYLEX takes them, tenant ('' for any), how many ids are looked at.
-- Reply: {id to go on after, or '' at the end; the revoked ids}.
--@include clock.lua
--@include revoking.lua
local tag, limit = KEYS[1], tonumber(ARGV[7])
local now_ms = math.floor(now_us(ARGV[1]) / 1000)
local ids = redis.call('ZRANGEBYLEX', tag .. 'sessions', ARGV[4], ARGV[5], 'LIMIT', 0, limit)
local revoked = {}
for _, session in ipairs(ids) do
  local tenant = redis.call('HGET', tag .. session, 't')
  if not tenant then
    redis.call('ZREM', tag .. 'sessions', session)
  elseif ARGV[6] == '' or ARGV[6] == tenant then
    revoke(tag, session, now_ms)
    revoked[#revoked + 1] = session
  end
end
announce(tag, ARGV[2], now_ms, tonumber(ARGV[3]), revoked)
return { #ids == limit and ids[limit] or '', unpack(revoked) }
