-- revoke: ends sessions.
--
-- Promise: from now on none of them is refreshed, and whoever is asked about one says that it is revoked. Revoking once
-- more changes nothing and is announced once more. One that is not there is marked as well: its record may have been
-- lost while client secrets of it are about.
-- Keys: the shard's hash tag.
-- Arguments: now ('' for TIME), channel of revocations, how long these are kept in ms, the sessions.
-- Reply: for each session 1 when it lived, else 0.
--@include clock.lua
--@include revoking.lua
local tag = KEYS[1]
local now_ms = math.floor(now_us(ARGV[1]) / 1000)
local lived, sessions = {}, {}
for i = 4, #ARGV do
  sessions[#sessions + 1] = ARGV[i]
  lived[#lived + 1] = revoke(tag, ARGV[i], now_ms) and 1 or 0
end
announce(tag, ARGV[2], now_ms, tonumber(ARGV[3]), sessions)
return lived
