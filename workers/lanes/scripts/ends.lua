-- ends: how many events of a type ended lately, and how.
--
-- Promise: changes nothing.
-- Keys: the shard's hash tag.
-- Arguments: now ('' for TIME), type.
-- Reply: {'done' or the reason of dead letters, count, …}; empty when the window is over.
--@include clock.lua
--@include window.lua
local found = redis.call('HGETALL', KEYS[1] .. 'ends:type:' .. ARGV[2])
local now_ms = math.floor(now_us(ARGV[1]) / 1000)
local counts = {}
for i = 1, #found, 2 do
  if found[i] ~= 'began' then
    counts[#counts + 1], counts[#counts + 2] = found[i], tonumber(found[i + 1])
  elseif now_ms - tonumber(found[i + 1]) > WINDOW_MS then
    return {}
  end
end
return counts
