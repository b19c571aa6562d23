-- grant: hands out what has become free.
--
-- Promise: bounded work per call. Grants that nobody took up go back to the front of their lines, and what they had
-- taken is given back; then those that rested or stood aside for a limit of their own come back; then each model that
-- has a line grants while its limits allow.
-- Keys: the limits' hash tag.
-- Arguments: now ('' for TIME), limit.
-- Reply: {lane, id, type, queue, lane, …}.
--@include clock.lua
--@include model.lua
--@include line.lua
local limit = tonumber(ARGV[2])
local function due(name)
  return ipairs(redis.call('ZRANGEBYSCORE', tag .. name, '-inf', ms, 'LIMIT', 0, limit))
end
for _, id in due('granted') do
  withdraw(ticket_of(id))
end
for _, queue in due('back') do
  come_back(queue)
end
for _, name in due('rest') do
  come_back_tenant(name)
end
local granted = {}
for _, name in ipairs(redis.call('SMEMBERS', tag .. 'models')) do
  for _, ticket in ipairs(grant(model_of(name), limit)) do
    granted[#granted + 1] = ticket
  end
end
save()
return wakes_of(granted)
