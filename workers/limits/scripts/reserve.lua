-- reserve: takes every limit that an event needs, or gives it a place in line.
--
-- Promise: all or none. A newcomer takes capacity at once only while nobody stands in line for the model; otherwise, and
-- while the circuit is open, it gets a ticket, once. A ticket that was granted is taken up. The same token again gets the
-- same answer; another token for what is still reserved takes it over, since a lane has one worker. While the circuit of the model is open and there is a fallback whose circuit is not, that one is meant.
-- Keys: the limits' hash tag.
-- Arguments: now ('' for TIME), id, token, lease in ms, model, fallback ('' for none), class, tenant, user, text tokens,
--   lane, type, queue, 1 when an attempt has failed before.
-- Reply: {'reserved', model, 1 when it is the probe} or {'waiting', model, place, seconds as text, reason}.
--@include clock.lua
--@include line.lua
local id, token, expiry = ARGV[2], ARGV[3], ms + tonumber(ARGV[4])
local reservation = tag .. 'res:' .. id

local function reserved(model, ticket, paid)
  redis.call('DEL', reservation)
  redis.call('HSET', reservation, 'token', token, 'model', model.name, 'tenant', ticket.tenant, 'user', ticket.user,
    'tokens', ticket.tokens, 'requests', 1, 'paid', cjson.encode(paid), 'began', ms, 'number', ticket.number,
    'class', ticket.class, 'lane', ticket.lane, 'type', ticket.type, 'queue', ticket.queue, 'text', ARGV[10],
    'retry', ticket.retry, 'fallback', ticket.fallback or '')
  redis.call('PEXPIRE', reservation, expiry - ms)
  save()
  return { 'reserved', model.name, model.probe == id and 1 or 0 }
end

local function waiting(ticket)
  local place, eta, reason = place_of(ticket)
  save()
  return { 'waiting', ticket.model, place, string.format('%.3f', eta), reason }
end

local held = redis.call('HMGET', reservation, 'token', 'model', 'tokens')
if held[1] and is_in_flight(held[2], id) then
  local model = model_of(held[2])
  if held[1] ~= token then  -- the worker that held it is gone: its successor goes on, with calls of its own
    model.rtat = spent(model.rtat, unit_us(model.rule.rpm, model.factor), 1)
    model.ttat = spent(model.ttat, unit_us(model.rule.tpm, model.factor), tonumber(held[3]))
    redis.call('HSET', reservation, 'token', token, 'tokens', tonumber(held[3]) * 2)
    redis.call('HINCRBY', reservation, 'requests', 1)
    redis.call('PEXPIRE', reservation, expiry - ms)
    redis.call('ZADD', tag .. 'flight:' .. held[2], expiry, id)
    save()
  end
  return { 'reserved', held[2], model.probe == id and 1 or 0 }
end
redis.call('DEL', reservation)  -- one that has run out
local ticket = ticket_of(id)
if ticket and ticket.state == 'granted' and not is_in_flight(ticket.model, id) then  -- too late
  withdraw(ticket)
  ticket = ticket_of(id)
elseif ticket and ticket.state == 'granted' and circuit_of(model_of(ticket.model)) > 0
  and model_of(ticket.model).probe ~= id then  -- it has opened since
  withdraw(ticket)
  if not to_fallback(model_of(ticket.model), ticket) then
    return waiting(ticket)
  end
  grant(model_of(ticket.model), 1)
  ticket = ticket_of(id)  -- by now it may be granted, or wait there
end
if ticket and ticket.state == 'granted' then
  redis.call('ZREM', tag .. 'granted', id)
  redis.call('DEL', tag .. 'ticket:' .. id)
  redis.call('ZADD', tag .. 'flight:' .. ticket.model, expiry, id)
  return reserved(model_of(ticket.model), ticket, cjson.decode(ticket.paid))
end

local name, fallback = ARGV[5], ARGV[6]
if fallback ~= '' and circuit_of(model_of(name)) > 0 and circuit_of(model_of(fallback)) == 0 then
  name, fallback = fallback, ''
end
if ticket and ticket.model ~= name then
  leave(id)
  ticket = nil
end
if ticket then
  return waiting(ticket)
end
local model = model_of(name)
local text = tonumber(ARGV[10])
ticket = { id = id, model = name, class = ARGV[7], tenant = ARGV[8], user = ARGV[9], lane = ARGV[11], type = ARGV[12],
  queue = ARGV[13], retry = ARGV[14], tokens = math.max(text, math.ceil(model.tokens)), number = redis.call('INCR', tag .. 'seq') }
local by, wait
local first = nobody_stands(model)
if first then
  by, wait = stopped(model, ticket)
end
if first and not by then
  return reserved(model, ticket, take(model, ticket, id, expiry))
end
redis.call('HSET', tag .. 'ticket:' .. id, 'model', name, 'class', ticket.class, 'tenant', ticket.tenant, 'user',
  ticket.user, 'tokens', ticket.tokens, 'number', ticket.number, 'lane', ticket.lane, 'type', ticket.type, 'queue',
  ticket.queue, 'retry', ticket.retry, 'fallback', fallback, 'since', ms)
stand(model, ticket)
if by and by ~= 'model' then
  step_aside(model, ticket, by, wait)
end
return waiting(ticket)
