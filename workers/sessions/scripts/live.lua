-- Included by every script that looks at a session. A session is a hash, `<tag><session id>`, whose fields have one letter
-- each since there are many of them: t tenant, u user, c made, s last refreshed, x ends at the latest (all three in ms),
-- f digest of what all its refresh tokens share, h digest of the one that is good. `<tag>sessions` is the index of their
-- ids, in their own order; `<tag>spent:<session id>` the digest and the salt of the token that was spent last, for the
-- grace; `<tag>revoked` the ids of revoked sessions, by when that was.

-- The fields of a session that lives, whatever Redis' own expiry has got to; nil when there is none.
local function live(tag, session, now_ms, idle_ms)
  local tenant, user, made, seen, ends, family, good = unpack(
    redis.call('HMGET', tag .. session, 't', 'u', 'c', 's', 'x', 'f', 'h'))
  if not tenant or now_ms >= tonumber(ends) or now_ms >= tonumber(seen) + idle_ms then
    return nil
  end
  return { tenant = tenant, user = user, made = made, seen = seen, ends = tonumber(ends), family = family, good = good }
end

-- It is used: its idle time begins anew.
local function touch(tag, session, ends, now_ms, idle_ms)
  redis.call('HSET', tag .. session, 's', now_ms)
  redis.call('PEXPIRE', tag .. session, math.min(idle_ms, ends - now_ms))
end

local function is_revoked(tag, session)
  return redis.call('ZSCORE', tag .. 'revoked', session) ~= false
end
