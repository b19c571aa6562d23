-- bury: keeps a dead letter of something that never became an event.
--
-- Promise: the same letter again replaces the first. Bounded: the oldest letter of the shard gives way.
-- Keys: the shard's hash tag.
-- Arguments: now ('' for TIME), id, reason, letter as JSON, body, retention in ms, bound of dead letters.
-- Reply: 1, or 0 when the letter replaced one.
--@include clock.lua
--@include dead.lua
local now_ms = math.floor(now_us(ARGV[1]) / 1000)
local retention_ms, bound = tonumber(ARGV[6]), tonumber(ARGV[7])
local new = keep_dead(KEYS[1], ARGV[2], ARGV[3], ARGV[4], '[]', ARGV[5], now_ms, retention_ms, bound)
return new and 1 or 0
