-- pace: how long turns take, of late.
--
-- Promise: the mean of the last one to two whiles, or of all there ever were when none has ended since. Three numbers are
-- kept of the start of each while; they go when nobody asks any more.
-- Keys: the hash tag of the figures.
-- Arguments: now ('' for TIME), the figure of the summed seconds, the figure of their number, the while in ms.
-- Reply: seconds, or '' when there never was one.
--@include clock.lua
local tag, now_ms, while_ms = KEYS[1], math.floor(now_us(ARGV[1]) / 1000), tonumber(ARGV[4])
local total = redis.call('HMGET', tag .. 'totals', ARGV[2], ARGV[3])
local sum, count = tonumber(total[1] or 0), tonumber(total[2] or 0)
local kept = redis.call('HMGET', tag .. 'pace', 'at', 'sum', 'count', 'next_sum', 'next_count')
local at, base_sum, base_count = tonumber(kept[1] or 0), tonumber(kept[2] or 0), tonumber(kept[3] or 0)
if now_ms - at >= while_ms then
  base_sum, base_count = tonumber(kept[4] or 0), tonumber(kept[5] or 0)
  redis.call('HSET', tag .. 'pace', 'at', now_ms, 'sum', base_sum, 'count', base_count, 'next_sum', tostring(sum),
    'next_count', count)
end
redis.call('PEXPIRE', tag .. 'pace', while_ms * 10)
if count > base_count then
  return tostring((sum - base_sum) / (count - base_count))
end
return count > 0 and tostring(sum / count) or ''
