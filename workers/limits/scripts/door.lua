-- door: how many events one user may send, counted before any of them is taken into the queue.
--
-- Promise: one number per user, a GCRA: the time at which what was sent is paid for. A minute's worth may come at once;
-- what is refused costs nothing. Who sends nothing for a minute is forgotten.
-- Keys: the limits' hash tag.
-- Arguments: now ('' for TIME), whose, how many events, how many a minute.
-- Reply: 0, or in how many ms as many would be let in.
--@include clock.lua
local key = KEYS[1] .. 'door:' .. ARGV[2]
local us, count, rate = now_us(ARGV[1]), tonumber(ARGV[3]), tonumber(ARGV[4])
local minute = 60000000
local paid = math.max(us, tonumber(redis.call('GET', key) or 0)) + math.min(count, rate) * minute / rate
if paid - us > minute then
  return math.ceil((paid - us - minute) / 1000)
end
redis.call('SET', key, string.format('%.0f', paid), 'PX', math.ceil((paid - us) / 1000))
return 0
