-- renew: a service vouches for a session's user once more.
--
-- Promise: the session's idle time begins anew, and its refresh token stays good. Nothing is changed of another user's.
-- Keys: the shard's hash tag.
-- Arguments: now ('' for TIME), session, tenant, user, idle time in ms.
-- Reply: {'renewed', end in ms}, {'revoked'} or {'unknown'}.
--@include clock.lua
--@include live.lua
local tag, session = KEYS[1], ARGV[2]
local now_ms, idle_ms = math.floor(now_us(ARGV[1]) / 1000), tonumber(ARGV[5])
local found = live(tag, session, now_ms, idle_ms)
if not found then
  return { is_revoked(tag, session) and 'revoked' or 'unknown' }
end
if found.tenant ~= ARGV[3] or found.user ~= ARGV[4] then
  return { 'unknown' }
end
touch(tag, session, found.ends, now_ms, idle_ms)
return { 'renewed', found.ends }
