-- cancel: stops an event on somebody's wish.
--
-- Promise: a waiting event ends as cancelled here and now, wherever in its lane it stands; a running one is marked, so
-- that from now on no text is added and any outcome becomes cancelled, and its worker is told by a message, `id reason`
-- (it also learns of it when it next appends or renews). A waiting event of which an earlier run has shown frames is
-- marked as well and is due at once: only a worker can store what was shown. An event that has ended stays as it ended.
-- Keys: the shard's hash tag.
-- Arguments: now ('' for TIME), id, reason, channel of cancels, retention in ms, grace in ms.
-- Reply: {'unknown'}, {'ended'}, or {'cancelling' or 'cancelled', id to wake, its type, its queue} (the last three
--   missing: nothing to wake).
--@include clock.lua
--@include frames.lua
--@include ending.lua
--@include stopping.lua
local terms = {
  channel = ARGV[4], now_ms = math.floor(now_us(ARGV[1]) / 1000), retention_ms = tonumber(ARGV[5]),
  grace_ms = tonumber(ARGV[6]),
}
local result, wake = stop_event(KEYS[1], ARGV[2], ARGV[3], false, terms)
return { result, unpack(wake) }
