-- Included by every script of the limits, after clock.lua: rates, circuit and line of one model.
--
-- A rate is a GCRA: one number, the time (in us) at which its bucket is empty again. A reservation needs room in all of
-- model requests, model tokens, tenant and user, and a place in flight, or takes nothing. Who stands in line is served
-- by start-time fair queuing: over the two classes, and in each over its tenants by weight, both counted in tokens.
local BURST_US = 500000       -- what a rate lets through at once, in time: half of what providers allow
local GRANT_MS = 5000         -- how long a grant waits to be taken up
local CUT, FLOOR, RISE = 0.7, 0.05, 0.01  -- the ceiling: times CUT at a 429, not under FLOOR, plus RISE a second
local FAILURES, OPEN_MS, LONGEST_MS, QUOTA_MS = 5, 5000, 60000, 60000
local SHARE = { interactive = 9, background = 1 }
local MEMORY = 0.1            -- weight of the newest value in a moving average
local BUDGET, EARNED, TRICKLE = 10, 0.1, 0.1  -- retries: at most, per answered call, per second
local STATE = { 'rtat', 'ttat', 'factor', 'factor_at', 'base', 'hold', 'fails', 'open', 'open_for', 'probe', 'tokens',
  'took', 'vt:interactive', 'vt:background', 'share:interactive', 'share:background', 'budget', 'budget_at', 'rpm', 'tpm' }

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
    model.budget = math.min(BUDGET, model.budget + TRICKLE * math.max(0, ms - model.budget_at) / 1000)
    model.budget_at = ms
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

-- How long a rate makes `cost` units wait. More than fits into the bucket goes when it is full, and into debt.
local function wait_us(tat, unit, cost)
  if not unit then
    return 0
  end
  local burst = math.max(BURST_US, unit)
  return math.max(0, math.max(tat, us) - us + math.min(cost * unit, burst) - burst)
end

local function spent(tat, unit, cost)
  return unit and math.max(tat, us) + cost * unit or tat
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

local function tat_of(key)
  return tonumber(redis.call('GET', tag .. key) or 0)
end

local function keep_tat(key, tat)
  redis.call('SET', tag .. key, string.format('%.0f', tat), 'PX', math.max(1, math.ceil((tat - us) / 1000) + 1000))
end

-- What stops a ticket: nil (nothing), 'model', 'tenant' or 'ticket' (itself), for how long (us), and why.
local function stopped(model, ticket)
  local circuit = circuit_of(model)
  local wait = math.max(circuit, (model.hold - ms) * 1000)
  local places = places_of(model)
  if places and flight_of(model.name) >= places then
    wait = math.max(wait, 1000)
  end
  wait = math.max(wait, wait_us(model.rtat, unit_us(model.rule.rpm, model.factor), 1),
    wait_us(model.ttat, unit_us(model.rule.tpm, model.factor), ticket.tokens))
  if wait > 0 then
    return 'model', wait, circuit > 0 and 'circuit_open' or 'rate_limit'
  end
  wait = wait_us(tat_of('tenant:' .. ticket.tenant), unit_us(rule('tenants', ticket.tenant).rpm), 1)
  if wait > 0 then
    return 'tenant', wait, 'rate_limit'
  end
  wait = wait_us(tat_of('user:' .. ticket.tenant .. '/' .. ticket.user), unit_us(rule('users', ticket.user).rpm), 1)
  if wait > 0 then
    return 'ticket', wait, 'rate_limit'
  end
  if ticket.retry == '1' and model.budget < 1 then
    return 'ticket', 1000000, 'retry_budget'
  end
end

-- Takes all limits. `member` is its name in flight, until `expiry`. Gives what each rate was charged, in us.
local function take(model, ticket, member, expiry)
  local requests, tokens = unit_us(model.rule.rpm, model.factor), unit_us(model.rule.tpm, model.factor)
  local tenant, user = unit_us(rule('tenants', ticket.tenant).rpm), unit_us(rule('users', ticket.user).rpm)
  model.rtat, model.ttat = spent(model.rtat, requests, 1), spent(model.ttat, tokens, ticket.tokens)
  if tenant then
    keep_tat('tenant:' .. ticket.tenant, spent(tat_of('tenant:' .. ticket.tenant), tenant, 1))
  end
  local user_key = 'user:' .. ticket.tenant .. '/' .. ticket.user
  if user then
    keep_tat(user_key, spent(tat_of(user_key), user, 1))
  end
  if ticket.retry == '1' then
    model.budget = model.budget - 1
  end
  local _, probe = circuit_of(model)
  if probe then
    model.probe = member
  end
  redis.call('ZADD', tag .. 'flight:' .. model.name, expiry, member)
  return { requests or 0, tokens and tokens * ticket.tokens or 0, tenant or 0, user or 0 }
end

-- Gives back what a reservation that was never used had taken.
local function give_back(model, ticket, paid)
  model.rtat, model.ttat = model.rtat - paid[1], model.ttat - paid[2]
  model.budget = model.budget + (ticket.retry == '1' and 1 or 0)
  for i, key in ipairs({ 'tenant:' .. ticket.tenant, 'user:' .. ticket.tenant .. '/' .. ticket.user }) do
    if paid[2 + i] > 0 and redis.call('EXISTS', tag .. key) == 1 then
      keep_tat(key, tat_of(key) - paid[2 + i])
    end
  end
end

local TICKET = { 'model', 'class', 'tenant', 'user', 'tokens', 'number', 'lane', 'type', 'queue', 'state', 'since', 'retry',
  'fallback', 'paid' }

local function ticket_of(id)
  local values = redis.call('HMGET', tag .. 'ticket:' .. id, unpack(TICKET))
  if not values[1] then
    return nil
  end
  local ticket = { id = id }
  for i, field in ipairs(TICKET) do
    ticket[field] = values[i]
  end
  ticket.tokens, ticket.number = tonumber(ticket.tokens), tonumber(ticket.number)
  return ticket
end

local function line_of(ticket)
  return tag .. 'line:' .. ticket.model .. ':' .. ticket.class .. ':' .. ticket.tenant
end

local function ring_of(model, class)
  return tag .. 'ring:' .. model .. ':' .. class
end

-- Puts a ticket into its tenant's line, by its number, and the tenant into the ring of those to be served.
local function stand(model, ticket)
  local class, ring = ticket.class, ring_of(ticket.model, ticket.class)
  if redis.call('EXISTS', ring) == 0 then
    local other = class == 'interactive' and 'background' or 'interactive'
    model['share:' .. class] = math.max(model['share:' .. class], model['share:' .. other])
  end
  redis.call('ZADD', line_of(ticket), ticket.number, ticket.id)
  redis.call('HSET', tag .. 'ticket:' .. ticket.id, 'state', 'waiting')
  if not redis.call('ZSCORE', tag .. 'rest', ticket.model .. ' ' .. class .. ' ' .. ticket.tenant) then
    local finished = tonumber(redis.call('HGET', tag .. 'fin:' .. ticket.model .. ':' .. class, ticket.tenant) or 0)
    redis.call('ZADD', ring, 'NX', math.max(model['vt:' .. class], finished), ticket.tenant)
    redis.call('SADD', tag .. 'models', ticket.model)
  end
end

-- Takes a ticket out of the line; `tokens` is what its tenant was served thereby.
local function unstand(model, ticket, tokens)
  local class, ring = ticket.class, ring_of(ticket.model, ticket.class)
  redis.call('ZREM', line_of(ticket), ticket.id)
  local start = redis.call('ZSCORE', ring, ticket.tenant)
  if not start then
    return
  end
  local finish = tonumber(start)
  if tokens > 0 then
    model['vt:' .. class] = finish
    model['share:' .. class] = model['share:' .. class] + tokens / SHARE[class]
    finish = finish + tokens / (rule('tenants', ticket.tenant).weight or 1)
  end
  if redis.call('EXISTS', line_of(ticket)) == 1 then
    redis.call('ZADD', ring, finish, ticket.tenant)
    return
  end
  redis.call('ZREM', ring, ticket.tenant)
  if redis.call('EXISTS', ring) == 1 then
    redis.call('HSET', tag .. 'fin:' .. ticket.model .. ':' .. class, ticket.tenant, finish)
  else
    redis.call('DEL', tag .. 'fin:' .. ticket.model .. ':' .. class)
  end
end

local function nobody_stands(model)
  return redis.call('EXISTS', ring_of(model.name, 'interactive'), ring_of(model.name, 'background')) == 0
end

-- A tenant at its own limit rests, and a ticket that something of its own stops steps aside: nobody waits behind them.
local function step_aside(model, ticket, by, wait)
  local due = ms + math.ceil(wait / 1000)
  if by == 'tenant' then
    redis.call('ZREM', ring_of(ticket.model, ticket.class), ticket.tenant)
    redis.call('ZADD', tag .. 'rest', due, ticket.model .. ' ' .. ticket.class .. ' ' .. ticket.tenant)
  else
    unstand(model, ticket, 0)
    redis.call('HSET', tag .. 'ticket:' .. ticket.id, 'state', 'later')
    redis.call('ZADD', tag .. 'later', due, ticket.id)
  end
end

-- The ticket that is served next; nil when nobody of this model stands in line.
local function next_ticket(model)
  local first, second = 'interactive', 'background'
  if model['share:background'] < model['share:interactive'] then
    first, second = second, first
  end
  for _, class in ipairs({ first, second }) do
    local tenant = redis.call('ZRANGE', ring_of(model.name, class), 0, 0)[1]
    if tenant then
      local line = tag .. 'line:' .. model.name .. ':' .. class .. ':' .. tenant
      return ticket_of(redis.call('ZRANGE', line, 0, 0)[1])
    end
  end
  redis.call('SREM', tag .. 'models', model.name)
end

-- Moves a ticket to the line of its fallback, unless that one is no better off. Says whether it did.
local function to_fallback(model, ticket)
  if (ticket.fallback or '') == '' or circuit_of(model_of(ticket.fallback)) > 0 then
    return false
  end
  unstand(model, ticket, 0)
  ticket.model, ticket.fallback = ticket.fallback, ''
  redis.call('HSET', tag .. 'ticket:' .. ticket.id, 'model', ticket.model, 'fallback', '')
  stand(model_of(ticket.model), ticket)
  return true
end

-- Hands capacity out: grants to the next in line while the limits allow, at most `limit`. Returns the tickets.
local function grant(model, limit)
  local granted = {}
  for _ = 1, limit * 2 do
    local ticket = #granted < limit and next_ticket(model)
    if not ticket then
      break
    end
    local by, wait, why = stopped(model, ticket)
    if by == 'model' then
      if why ~= 'circuit_open' or not to_fallback(model, ticket) then
        break
      end
    elseif by then
      step_aside(model, ticket, by, wait)
    else
      unstand(model, ticket, ticket.tokens)
      local paid = take(model, ticket, ticket.id, ms + GRANT_MS)
      redis.call('HSET', tag .. 'ticket:' .. ticket.id, 'state', 'granted', 'paid', cjson.encode(paid))
      redis.call('ZADD', tag .. 'granted', ms + GRANT_MS, ticket.id)
      granted[#granted + 1] = ticket
    end
  end
  return granted
end

local function wakes_of(tickets)
  local flat = {}
  for _, ticket in ipairs(tickets) do
    for _, field in ipairs({ 'lane', 'id', 'type', 'queue' }) do
      flat[#flat + 1] = ticket[field]
    end
  end
  return flat
end

-- A grant that is not to be used: what it took is given back, and the ticket stands where it stood.
local function withdraw(ticket)
  local model = model_of(ticket.model)
  give_back(model, ticket, cjson.decode(ticket.paid))
  redis.call('ZREM', tag .. 'granted', ticket.id)
  redis.call('ZREM', tag .. 'flight:' .. ticket.model, ticket.id)
  stand(model, ticket)
end

-- A ticket goes for good, wherever it stands; what it was granted is given back.
local function leave(id)
  local ticket = ticket_of(id)
  if not ticket then
    return
  end
  local model = model_of(ticket.model)
  if ticket.state == 'granted' then
    give_back(model, ticket, cjson.decode(ticket.paid))
    redis.call('ZREM', tag .. 'flight:' .. ticket.model, id)
    redis.call('ZREM', tag .. 'granted', id)
  else
    unstand(model, ticket, 0)
    redis.call('ZREM', tag .. 'later', id)
  end
  redis.call('DEL', tag .. 'ticket:' .. id)
end

-- Place in line (1: next) and seconds until it is served, as well as can be told.
local function place_of(ticket)
  local model = model_of(ticket.model)
  local per_second = {}
  if model.rule.rpm then
    per_second[#per_second + 1] = model.rule.rpm * model.factor / 60
  end
  if model.rule.tpm then
    per_second[#per_second + 1] = model.rule.tpm * model.factor / 60 / math.max(1, ticket.tokens)
  end
  local places = places_of(model)
  if places and model.took > 0 then
    per_second[#per_second + 1] = places * 1000 / model.took
  end
  local _, _, reason = stopped(model, ticket)
  local blocked = math.max(0, (circuit_of(model)) / 1000, model.hold - ms)
  local rank = redis.call('ZRANK', line_of(ticket), ticket.id)
  if not rank then  -- granted, or aside
    local due = redis.call('ZSCORE', tag .. 'later', ticket.id)
    return 1, math.max(blocked, due and tonumber(due) - ms or 0) / 1000, reason or 'rate_limit'
  end
  local weight = rule('tenants', ticket.tenant).weight or 1
  local place = rank + 1
  for class, share in pairs(SHARE) do
    local others, own = 0, class == ticket.class
    for _, tenant in ipairs(redis.call('ZRANGE', ring_of(ticket.model, class), 0, 49)) do
      if not (own and tenant == ticket.tenant) then
        local waiting = redis.call('ZCARD', tag .. 'line:' .. ticket.model .. ':' .. class .. ':' .. tenant)
        if own then
          waiting = math.min(waiting, math.floor((rank + 1) * (rule('tenants', tenant).weight or 1) / weight))
        end
        others = others + waiting
      end
    end
    place = place + (own and others or math.min(others, math.floor((rank + 1) * share / SHARE[ticket.class])))
  end
  local eta = 0
  for _, rate in ipairs(per_second) do
    eta = math.max(eta, place / rate)
  end
  return place, eta + blocked / 1000, reason or 'rate_limit'
end
