-- settle: what a run has really used, and how the provider did.
--
-- Promise: once, under its token, unless it has run out. Refused when a later run of the event holds it. The rates are
-- charged or given back the difference, the place in flight is free. A call that was begun is counted however it ended,
-- since the provider counts it; one that did not say what it used is taken at its estimate. A run without a call gives
-- everything back. A refused call (429) holds everybody back until the provider's time, lowers the ceiling (once a
-- second) and puts the event back to the front of the line; a turn that our own limits stop between two calls (deferred)
-- goes to the front as well, and says nothing about the provider. Both pay their tenant's and their user's share when
-- they go on. So does a run that another queue goes on with (handed_over), which was answered all that it asked: it keeps
-- its number for a minute, and so its place before those who came later. Five failures in a row open the circuit, a failed probe opens it for twice as long, any answer closes it.
-- Then what became free is handed out.
-- Keys: the limits' hash tag.
-- Arguments: now ('' for TIME), id, token, calls that were begun, how many of them said what they used, the tokens
--   that they used, verdict (ok, handed_over, failed, rate_limited, deferred, quota or neutral), ms that the
--   provider wants us to wait (0: it did not say).
-- Reply: {lane, id, type, queue, lane, …} of the grants, or {'stale'}.
--@include clock.lua
--@include model.lua
--@include line.lua
local CUT, FLOOR = 0.7, 0.05  -- the ceiling: times CUT at a 429, not under FLOOR
local FAILURES, OPEN_MS, LONGEST_MS, QUOTA_MS = 5, 5000, 60000, 60000
local NUMBER_MS = 60000
local id, calls, measured, tokens = ARGV[2], tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local verdict, said = ARGV[7], tonumber(ARGV[8])
local key = tag .. 'res:' .. id
local FIELDS = { 'token', 'model', 'calls', 'tokens', 'began', 'tenant', 'user', 'class', 'number', 'lane', 'type',
  'queue', 'text', 'retry', 'fallback', 'paid' }
local held = { id = id }
for i, value in ipairs(redis.call('HMGET', key, unpack(FIELDS))) do
  held[FIELDS[i]] = value
end
if held.token ~= ARGV[3] then
  return held.token and { 'stale' } or {}
end
redis.call('DEL', key)
if not is_in_flight(held.model, id) then
  return {}
end
local model = model_of(held.model)
local in_flight = flight_of(model.name)
redis.call('ZREM', tag .. 'flight:' .. model.name, id)

local charged_calls, charged_tokens = tonumber(held.calls), tonumber(held.tokens)
local used = tokens + math.max(0, calls - measured) * charged_tokens / charged_calls
model.rtat = model.rtat + (calls - charged_calls) * (request_us(model) or 0)
model.ttat = model.ttat + (used - charged_tokens) * (token_us(model) or 0)
if calls == 0 or verdict == 'rate_limited' or verdict == 'deferred' or verdict == 'handed_over' then
  give_back_shares(model, held, cjson.decode(held.paid))
end

local probe = model.probe == id
if probe then
  model.probe = nil
end

local function open(for_ms)
  model.open, model.open_for = ms + for_ms, for_ms
end

local function learn(field, value)
  model[field] = model[field] == 0 and value or model[field] + MEMORY * (value - model[field])
end

local function back_to_the_front()
  held.number, held.tokens = tonumber(held.number), estimate(model, held.text)
  write_ticket(held)
  stand(model, held)
end

local function answered()
  model.answers = model.answers + 1
  model.budget = math.min(BUDGET, model.budget + (is_well(model) and WELL_EARNED or EARNED))
  learn('calls', calls)
  learn('took', ms - tonumber(held.began))
  if measured > 0 then
    learn('tokens', tokens / measured)
  end
end

local function refused()
  model.hold = math.max(model.hold, ms + (said > 0 and said or 1000))
  if ms - tonumber(redis.call('HGET', tag .. 'model:' .. model.name, 'cut') or 0) >= 1000 then
    if model.factor == 1 then
      model.base = in_flight
    end
    model.factor = math.max(FLOOR, model.factor * CUT)
    redis.call('HSET', tag .. 'model:' .. model.name, 'cut', ms)
  end
  back_to_the_front()
end

local function failed()
  model.fails, model.answers, model.failed_at = model.fails + 1, 0, ms
  if probe then
    open(math.min(LONGEST_MS, math.max(OPEN_MS, model.open_for * 2)))
  elseif model.open == 0 and model.fails >= FAILURES then
    open(OPEN_MS)
  end
end

if verdict == 'ok' or verdict == 'handed_over' or verdict == 'rate_limited' then  -- it answers, one way or another
  model.fails = 0
  if probe then
    model.open, model.open_for = 0, 0
  end
end
if verdict == 'ok' or verdict == 'handed_over' then
  answered()
  if verdict == 'handed_over' then
    redis.call('SET', tag .. 'number:' .. id, held.number, 'PX', NUMBER_MS)
  end
elseif verdict == 'rate_limited' then
  refused()
elseif verdict == 'deferred' then
  back_to_the_front()
elseif verdict == 'failed' then
  failed()
elseif verdict == 'quota' then
  model.answers, model.failed_at = 0, ms
  open(QUOTA_MS)
elseif calls > 0 then  -- nobody was answered, whosever fault that was
  model.answers = 0
end
local granted = grant(model, 10)
save()
return wakes_of(granted)
