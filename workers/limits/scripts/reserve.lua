-- reserve: takes every limit that an event needs, or gives it a place in line.
--
-- Promise: all or none. A newcomer takes capacity at once only while nobody waits before it, be it in line for the
-- model, or of its tenant or user at their own limit; otherwise, and while the circuit is open, it gets a ticket,
-- once. A ticket that was granted is taken up. The same token again gets the same answer; another token for what is
-- still reserved takes it over, since a lane has one worker, and pays for its own call: that of the worker before was
-- made. While the circuit of the model is open and there is a fallback whose circuit is not, that one is meant; who
-- moves between the two keeps its number, and so does who comes back from a handoff to another queue.
-- Keys: the limits' hash tag.
-- Arguments: now ('' for TIME), id, token, lease in ms, model, fallback ('' for none), class, tenant, user, text
--   tokens, lane, type, queue, 1 when an attempt has failed before.
-- Reply: {'reserved', model, 1 when it is the probe} or {'waiting', model, place, seconds as text, reason}.
--@include clock.lua
--@include model.lua
--@include line.lua
--@include eta.lua
--@include newcomer.lua
local id, token, expiry = ARGV[2], ARGV[3], ms + tonumber(ARGV[4])
local reservation = tag .. 'res:' .. id

local function reserved(model, ticket, paid)
  redis.call('DEL', reservation)
  redis.call('HSET', reservation, 'token', token, 'model', model.name, 'tenant', ticket.tenant, 'user', ticket.user,
    'tokens', ticket.tokens, 'calls', 1, 'paid', cjson.encode(paid), 'began', ms, 'number', ticket.number,
    'class', ticket.class, 'lane', ticket.lane, 'type', ticket.type, 'queue', ticket.queue, 'text', ARGV[10],
    'retry', ticket.retry, 'fallback', ticket.fallback or '')
  redis.call('PEXPIRE', reservation, expiry - ms)
  save()
  return { 'reserved', model.name, model.probe == id and 1 or 0 }
end

local held = redis.call('HMGET', reservation, 'token', 'model')
if held[1] and is_in_flight(held[2], id) then
  local model = model_of(held[2])
  if held[1] ~= token then
    local tokens = estimate(model, ARGV[10])
    charge(model, 1, tokens)
    redis.call('HSET', reservation, 'token', token, 'tokens', tokens, 'calls', 1, 'paid', '[0,0,0,0]')
    redis.call('PEXPIRE', reservation, expiry - ms)
    redis.call('ZADD', tag .. 'flight:' .. held[2], expiry, id)
    save()
  end
  return { 'reserved', held[2], model.probe == id and 1 or 0 }
end
redis.call('DEL', reservation)  -- one that has run out

local ticket, number = ticket_of(id), nil
if ticket and ticket.state == 'granted' then
  local model = model_of(ticket.model)
  if not is_in_flight(ticket.model, id) then  -- too late
    withdraw(ticket)
    ticket = ticket_of(id)
  elseif circuit_of(model) > 0 and model.probe ~= id then  -- it has opened since
    number = ticket.number
    leave(ticket)
    ticket = nil
  else
    redis.call('ZREM', tag .. 'granted', id)
    redis.call('DEL', tag .. 'ticket:' .. id)
    redis.call('ZADD', tag .. 'flight:' .. ticket.model, expiry, id)
    return reserved(model, ticket, cjson.decode(ticket.paid))
  end
end

local name, fallback = model_for_newcomer()
if ticket and ticket.model ~= name then
  number = ticket.number
  leave(ticket)
  ticket = nil
end
if ticket then
  return waiting(ticket)
end
local model = model_of(name)
ticket = newcomer(model, fallback, number)
if is_first(model, ticket) and not stopped(model, ticket) then
  return reserved(model, ticket, take(model, ticket, id, expiry))
end
join(model, ticket)
return waiting(ticket)
