-- Included by every script of the limits, after clock.lua: rates, ceiling, circuit and retry budget of one model.
--
-- A rate is a GCRA: one number, the time (in us) at which its bucket is empty again. A reservation needs room in all
-- of model requests, model tokens, tenant and user, and a place in flight, or takes nothing.
--
-- The budget of retries, and why an outage costs no more than 1.1 calls per event and the probes: it holds ten at
-- most, and earns a tenth per answered call and a tenth per second. So, over an outage of a minute that began with it
-- full, 16 retries go, whatever fails, and a tenth of what is answered; the circuit lets even fewer through, the
-- probes. But a blip that cuts a hundred streams of a quiet system would make the last of them wait for a quarter of
-- an hour. So the budget earns faster while the provider is well: the circuit closed, three answers in a row, and ten
-- seconds without a failure of its own. None of that holds in an outage, whose first failure ends it, nor where a
-- part of the calls goes on failing; and what it lets through is answered: one retry for each call that had failed,
-- which no event can do without. It earns one per answered call then, so that a retry that is answered pays for the
-- next, and two a second.
local BURST_US = 500000       -- what a rate lets through at once, in time: half of what providers allow
local KEPT_MS = 60000         -- how long the rate of a tenant or a user is kept that is not charged any more
local RISE = 0.01             -- of the ceiling, a second
local MEMORY = 0.1            -- weight of the newest value in a moving average
local BUDGET, EARNED, TRICKLE = 10, 0.1, 0.1  -- retries: at most, per answered call, per second
local WELL_MS, WELL_ANSWERS, WELL_EARNED, WELL_TRICKLE = 10000, 3, 1, 2
local STATE = { 'rtat', 'ttat', 'factor', 'factor_at', 'base', 'hold', 'fails', 'open', 'open_for', 'probe', 'tokens',
  'calls', 'took', 'vt:interactive', 'vt:background', 'share:interactive', 'share:background', 'budget', 'budget_at',
  'answers', 'failed_at', 'rpm', 'tpm' }

local tag = KEYS[1]
local us = now_us(ARGV[1])
local ms = math.floor(us / 1000)
local config = cjson.decode(redis.call('GET', tag .. 'config') or '{}')
local models = {}

local function rule(section, name)
  local rules = config[section]
  return rules and (rules[name] or rules['*']) or {}
end

-- What a rate has been charged counts in units: when the limit was changed, they take another time.
local function rescaled(tat, before, now)
  return before > 0 and now and before ~= now and tat > us and us + (tat - us) * before / now or tat
end

-- Since when (ms) the provider is well; nil: it is not.
local function well_since(model)
  return model.open == 0 and model.answers >= WELL_ANSWERS and model.failed_at + WELL_MS or nil
end

local function is_well(model)
  local since = well_since(model)
  return since and since <= ms
end

-- What the budget has earned since it was last looked at.
local function trickled(model)
  local passed, since = math.max(0, ms - model.budget_at), well_since(model)
  local well = since and math.max(0, ms - math.max(since, model.budget_at)) or 0
  return math.min(BUDGET, model.budget + (TRICKLE * (passed - well) + WELL_TRICKLE * well) / 1000)
end

-- The state of a model, read once; `save` writes what was read.
local function model_of(name)
  if not models[name] then
    local model = { name = name, rule = rule('models', name) }
    for i, value in ipairs(redis.call('HMGET', tag .. 'model:' .. name, unpack(STATE))) do
      if STATE[i] ~= 'probe' then
        model[STATE[i]] = tonumber(value or 0)
      elseif value and value ~= '' then
        model.probe = value
      end
    end
    if model.factor == 0 then
      model.factor = 1
    end
    model.factor = math.min(1, model.factor + RISE * math.max(0, ms - model.factor_at) / 1000)
    model.factor_at = ms
    if model.budget_at == 0 then
      model.budget, model.budget_at = BUDGET, ms
    end
    model.budget, model.budget_at = trickled(model), ms
    model.rtat = rescaled(model.rtat, model.rpm, model.rule.rpm)
    model.ttat = rescaled(model.ttat, model.tpm, model.rule.tpm)
    model.rpm, model.tpm = model.rule.rpm or 0, model.rule.tpm or 0
    models[name] = model
  end
  return models[name]
end

local function save()
  for name, model in pairs(models) do
    local fields = {}
    for _, field in ipairs(STATE) do
      local value = model[field]
      if type(value) == 'number' then
        value = string.format('%.6f', value)
      end
      fields[#fields + 1], fields[#fields + 2] = field, value or ''
    end
    redis.call('HSET', tag .. 'model:' .. name, unpack(fields))
  end
end

-- Microseconds that one unit of a rate takes; nil: no such limit.
local function unit_us(per_minute, factor)
  return per_minute and 60000000 / (per_minute * (factor or 1))
end

local function request_us(model)
  return unit_us(model.rule.rpm, model.factor)
end

local function token_us(model)
  return unit_us(model.rule.tpm, model.factor)
end

local function burst_us(unit)
  return math.max(BURST_US, unit)
end

-- How long a rate makes `cost` units wait. More than fits into the bucket goes when it is full, and into debt.
local function wait_us(tat, unit, cost)
  if not unit then
    return 0
  end
  local burst = burst_us(unit)
  return math.max(0, math.max(tat, us) - us + math.min(cost * unit, burst) - burst)
end

local function spent(tat, unit, cost)
  return unit and math.max(tat, us) + cost * unit or tat
end

-- Charges calls to a model: their requests and their tokens.
local function charge(model, calls, tokens)
  model.rtat, model.ttat = spent(model.rtat, request_us(model), calls), spent(model.ttat, token_us(model), tokens)
end

-- What one call is taken to cost; `text` is what the event's own text does.
local function estimate(model, text)
  return math.max(tonumber(text), math.ceil(model.tokens))
end

-- The rate of a tenant or a user is kept with the unit that it was charged in, until after its bucket is empty.
local function keep_tat(key, tat, unit)
  local left = math.max(0, math.ceil((tat - us) / 1000)) + KEPT_MS
  redis.call('SET', tag .. key, string.format('%.0f %.3f', tat, unit), 'PX', left)
end

local function tat_of(key, unit)
  local tat, before = string.match(redis.call('GET', tag .. key) or '', '(%S+) (%S+)')
  tat, before = tonumber(tat or 0), tonumber(before or 0)
  if before > 0 and math.abs(before - unit) > 0.01 and tat > us then
    tat = us + (tat - us) * unit / before
    keep_tat(key, tat, unit)
  end
  return tat
end

local function flight_of(name)
  local key = tag .. 'flight:' .. name
  redis.call('ZREMRANGEBYSCORE', key, '-inf', ms)
  return redis.call('ZCARD', key)
end

-- Whether something is in flight still: what has run out counts for nothing, though its record may be there.
local function is_in_flight(name, member)
  local expiry = redis.call('ZSCORE', tag .. 'flight:' .. name, member)
  return expiry and tonumber(expiry) > ms
end

-- Places in flight; nil: no limit. A model without one gets it by its first cut, from what was in flight then.
local function places_of(model)
  local base = model.rule.concurrency or (model.factor < 1 and model.base > 0 and model.base)
  return base and math.max(1, math.floor(base * model.factor))
end

-- The circuit: until when nothing goes, and whether the next one is the probe.
local function circuit_of(model)
  if model.open == 0 then
    return 0, false
  end
  if ms < model.open then
    return (model.open - ms) * 1000, false
  end
  if model.probe and is_in_flight(model.name, model.probe) then
    return 1000000, false
  end
  return 0, true
end
