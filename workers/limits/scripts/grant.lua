-- grant: hands out what has become free.
--
-- Promise: bounded work per call. Grants that nobody took up go back to the front of their lines, and what they had
-- taken is given back; then those that stepped aside for a limit of their own come back; then each model that has a line
-- grants while its limits allow.
-- Keys: the limits' hash tag.
-- Arguments: now ('' for TIME), limit.
-- Reply: {lane, id, type, queue, lane, …}.
--@include clock.lua
--@include line.lua
local limit = tonumber(ARGV[2])
for _, id in ipairs(redis.call('ZRANGEBYSCORE', tag .. 'granted', '-inf', ms, 'LIMIT', 0, limit)) do
  local ticket = ticket_of(id)
  if ticket then
    withdraw(ticket)
  end
  redis.call('ZREM', tag .. 'granted', id)
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', tag .. 'later', '-inf', ms, 'LIMIT', 0, limit)) do
  redis.call('ZREM', tag .. 'later', id)
  local ticket = ticket_of(id)
  if ticket then
    stand(model_of(ticket.model), ticket)
  end
end
for _, name in ipairs(redis.call('ZRANGEBYSCORE', tag .. 'rest', '-inf', ms, 'LIMIT', 0, limit)) do
  redis.call('ZREM', tag .. 'rest', name)
  local model, class, tenant = string.match(name, '^(%S+) (%S+) (%S+)$')
  local first = redis.call('ZRANGE', tag .. 'line:' .. model .. ':' .. class .. ':' .. tenant, 0, 0)[1]
  if first then
    stand(model_of(model), ticket_of(first))
  end
end
local granted = {}
for _, name in ipairs(redis.call('SMEMBERS', tag .. 'models')) do
  for _, ticket in ipairs(grant(model_of(name), limit)) do
    granted[#granted + 1] = ticket
  end
end
save()
return wakes_of(granted)
