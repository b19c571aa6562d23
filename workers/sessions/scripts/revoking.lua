-- Included by whatever revokes sessions.

-- Ends one session. True when it lived. Nothing makes it live again, not even a start that is run once more.
local function revoke(tag, session, now_ms)
  redis.call('ZADD', tag .. 'revoked', 'NX', now_ms, session)
  redis.call('ZREM', tag .. 'sessions', session)
  redis.call('DEL', tag .. 'spent:' .. session)
  return redis.call('DEL', tag .. session) == 1
end

-- Tells every process that listens, and forgets revocations that are older than anything they could still be asked about.
-- The message may get lost: the list is the truth, and is looked at again and again.
local function announce(tag, channel, now_ms, kept_ms, sessions)
  redis.call('ZREMRANGEBYSCORE', tag .. 'revoked', '-inf', now_ms - kept_ms)
  if #sessions > 0 then
    redis.call('PUBLISH', channel, cjson.encode({ now_ms, sessions }))
  end
end
