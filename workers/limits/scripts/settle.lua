-- settle: what a run has really used, and how the provider did.
--
-- Promise: once, under its token, unless it has run out. Refused when a later run of the event holds it. The rates are charged or given back the difference, the place in flight is free. A
-- refused call (429) holds everybody back until the provider's time, lowers the ceiling (once a second) and puts the
-- event back to the front of the line. Five failures in a row open the circuit, a failed probe opens it for twice as
-- long, any answer closes it; answers earn the budget of retries. Then what became free is handed out.
-- Keys: the limits' hash tag.
-- Arguments: now ('' for TIME), id, token, requests ('' for those that were charged), tokens, verdict (ok, failed, rate_limited, quota or neutral), ms that
--   the provider wants us to wait (0: it did not say).
-- Reply: {lane, id, type, queue, lane, …} of the grants, or {'stale'}.
--@include clock.lua
--@include line.lua
local id, tokens, verdict = ARGV[2], tonumber(ARGV[5]), ARGV[6]
local key = tag .. 'res:' .. id
local held = redis.call('HMGET', key, 'token', 'model', 'requests', 'tokens', 'began', 'tenant', 'user', 'class', 'number',
  'lane', 'type', 'queue', 'text', 'retry', 'fallback')
if held[1] ~= ARGV[3] then
  return held[1] and { 'stale' } or {}
end
redis.call('DEL', key)
if not is_in_flight(held[2], id) then
  return {}
end
local model = model_of(held[2])
local in_flight = flight_of(model.name)
redis.call('ZREM', tag .. 'flight:' .. model.name, id)
local per_request, per_token = unit_us(model.rule.rpm, model.factor), unit_us(model.rule.tpm, model.factor)
local requests = tonumber(ARGV[4] ~= '' and ARGV[4] or held[3])
model.rtat = model.rtat + (requests - tonumber(held[3])) * (per_request or 0)
model.ttat = model.ttat + (tokens - tonumber(held[4])) * (per_token or 0)

local probe = model.probe == id
if probe then
  model.probe = nil
end
local function open(for_ms)
  model.open, model.open_for = ms + for_ms, for_ms
end
if verdict == 'ok' or verdict == 'rate_limited' then
  model.fails = 0
  if probe then
    model.open, model.open_for = 0, 0
  end
end
if verdict == 'ok' then
  model.budget = math.min(BUDGET, model.budget + EARNED)
  local took = ms - tonumber(held[5])
  model.tokens = model.tokens == 0 and tokens or model.tokens + MEMORY * (tokens - model.tokens)
  model.took = model.took == 0 and took or model.took + MEMORY * (took - model.took)
elseif verdict == 'rate_limited' then
  local said = tonumber(ARGV[7])
  model.hold = math.max(model.hold, ms + (said > 0 and said or 1000))
  if ms - tonumber(redis.call('HGET', tag .. 'model:' .. model.name, 'cut') or 0) >= 1000 then
    if model.factor == 1 then
      model.base = in_flight
    end
    model.factor = math.max(FLOOR, model.factor * CUT)
    redis.call('HSET', tag .. 'model:' .. model.name, 'cut', ms)
  end
  local ticket = { id = id, model = model.name, class = held[8], tenant = held[6], user = held[7],
    number = tonumber(held[9]), tokens = math.max(tonumber(held[13]), math.ceil(model.tokens)) }
  redis.call('HSET', tag .. 'ticket:' .. id, 'model', ticket.model, 'class', ticket.class, 'tenant', ticket.tenant,
    'user', ticket.user, 'tokens', ticket.tokens, 'number', ticket.number, 'lane', held[10], 'type', held[11], 'queue',
    held[12], 'retry', held[14], 'fallback', held[15], 'since', ms)
  stand(model, ticket)
elseif verdict == 'failed' then
  model.fails = model.fails + 1
  if probe then
    open(math.min(LONGEST_MS, math.max(OPEN_MS, model.open_for * 2)))
  elseif model.open == 0 and model.fails >= FAILURES then
    open(OPEN_MS)
  end
elseif verdict == 'quota' then
  open(QUOTA_MS)
end
local granted = grant(model, 10)
save()
return wakes_of(granted)
