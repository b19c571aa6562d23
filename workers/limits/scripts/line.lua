-- Included after model.lua by every script that moves events in line.
--
-- Who stands in line is served by start-time fair queuing: over the two classes, and in each over its tenants by
-- weight, both counted in tokens. Within a tenant it is first come, first served, but nobody waits behind what is
-- stopped by a limit of its own: a tenant at its limit rests (`rest`), and a ticket that is stopped by its user's
-- limit or by the budget of retries stands aside, in a queue of that user or of those retries (`aside:`). The first
-- of each queue comes back when it may go (`back`), so that the work per look depends on how much may go, not on how
-- much waits.
--
-- A ticket is waiting (in the line of its tenant), aside, or granted. A queue that holds something is in `back`.
local GRANT_MS = 5000         -- how long a grant waits to be taken up
local RETRIES_BACK_MS = 100   -- how often the budget is looked at for those aside
local SHARE = { interactive = 9, background = 1 }

local function place_name(ticket, class)
  return ticket.model .. ':' .. (class or ticket.class) .. ':' .. ticket.tenant
end

local function line_of(ticket, class)
  return tag .. 'line:' .. place_name(ticket, class)
end

local function ring_of(model, class)
  return tag .. 'ring:' .. model .. ':' .. class
end

local function finished_of(ticket)
  return tag .. 'fin:' .. ticket.model .. ':' .. ticket.class
end

-- The queues of those aside. Names of tenants and users have no slash, so the two kinds are never mixed up.
local function queue_of_user(ticket, class)
  return place_name(ticket, class) .. '/' .. ticket.user
end

local function queue_of_retries(ticket)
  return ticket.model .. ':' .. ticket.class .. '/'
end

local function queue_of(ticket, by)
  return by == 'retries' and queue_of_retries(ticket) or queue_of_user(ticket)
end

-- All that waits of a user with a limit: its order, for who asks how long it takes.
local function own_of(ticket)
  return tag .. 'own:' .. queue_of_user(ticket)
end

local function tenant_rate(ticket)
  return 'tenant:' .. ticket.tenant, unit_us(rule('tenants', ticket.tenant).rpm)
end

local function user_rate(ticket)
  return 'user:' .. ticket.tenant .. '/' .. ticket.user, unit_us(rule('users', ticket.user).rpm)
end

local TICKET = { 'model', 'class', 'tenant', 'user', 'tokens', 'number', 'lane', 'type', 'queue', 'retry', 'fallback',
  'state', 'paid', 'aside' }
local WRITTEN = 11            -- of these when the ticket is made; the others tell where it stands

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

local function write_ticket(ticket)
  local fields = {}
  for i = 1, WRITTEN do
    fields[#fields + 1], fields[#fields + 2] = TICKET[i], ticket[TICKET[i]] or ''
  end
  redis.call('HSET', tag .. 'ticket:' .. ticket.id, unpack(fields))
end

local function behind_another(key, ticket)
  local first = redis.call('ZRANGE', tag .. 'aside:' .. key, 0, 0, 'WITHSCORES')
  return first[2] and tonumber(first[2]) < ticket.number
end

-- What stops a ticket whatever the others do: nil (nothing), 'tenant', 'user' or 'retries', for how long (us), and
-- why.
local function held_up(model, ticket)
  local key, unit = tenant_rate(ticket)
  local wait = unit and wait_us(tat_of(key, unit), unit, 1) or 0
  if wait > 0 then
    return 'tenant', wait, 'rate_limit'
  end
  key, unit = user_rate(ticket)
  wait = unit and wait_us(tat_of(key, unit), unit, 1) or 0
  if wait > 0 or behind_another(queue_of_user(ticket), ticket) then
    return 'user', wait, 'rate_limit'
  end
  if ticket.retry == '1' and (model.budget < 1 or behind_another(queue_of_retries(ticket), ticket)) then
    return 'retries', RETRIES_BACK_MS * 1000, 'retry_budget'
  end
end

-- What stops a ticket: its model ('model'), or what holds it up. That comes before the model's rates, or a head of
-- the line that both stop would keep those waiting whom neither does.
local function stopped(model, ticket)
  local circuit = circuit_of(model)
  if circuit > 0 then
    return 'model', circuit, 'circuit_open'
  end
  local by, wait, why = held_up(model, ticket)
  if by then
    return by, wait, why
  end
  wait = math.max((model.hold - ms) * 1000, wait_us(model.rtat, request_us(model), 1),
    wait_us(model.ttat, token_us(model), ticket.tokens))
  local places = places_of(model)
  if places and flight_of(model.name) >= places then
    wait = math.max(wait, 1000)
  end
  if wait > 0 then
    return 'model', wait, 'rate_limit'
  end
end

-- Takes all limits. `member` is its name in flight, until `expiry`. Gives what each rate was charged, in us.
local function take(model, ticket, member, expiry)
  local paid = { request_us(model) or 0, (token_us(model) or 0) * ticket.tokens }
  charge(model, 1, ticket.tokens)
  for i, rate in ipairs({ tenant_rate, user_rate }) do
    local key, unit = rate(ticket)
    paid[2 + i] = unit or 0
    if unit then
      keep_tat(key, spent(tat_of(key, unit), unit, 1), unit)
    end
  end
  if ticket.retry == '1' then
    model.budget = model.budget - 1
  end
  local _, probe = circuit_of(model)
  if probe then
    model.probe = member
  end
  redis.call('ZADD', tag .. 'flight:' .. model.name, expiry, member)
  return paid
end

-- Gives back what a turn has taken of its tenant, its user and the budget of retries. Who waits for them looks again.
local function give_back_shares(model, ticket, paid)
  model.budget = math.min(BUDGET, model.budget + (ticket.retry == '1' and 1 or 0))
  for i, rate in ipairs({ tenant_rate, user_rate }) do
    local key, unit = rate(ticket)
    if unit and paid[2 + i] > 0 and redis.call('EXISTS', tag .. key) == 1 then
      keep_tat(key, tat_of(key, unit) - paid[2 + i], unit)
    end
  end
  for class in pairs(SHARE) do
    redis.call('ZADD', tag .. 'rest', 'XX', ms, place_name(ticket, class))
    redis.call('ZADD', tag .. 'back', 'XX', ms, queue_of_user(ticket, class))
  end
end

-- Puts a ticket into its tenant's line, by its number, and the tenant into the ring of those to be served.
local function stand(model, ticket)
  local class, ring = ticket.class, ring_of(ticket.model, ticket.class)
  if redis.call('EXISTS', ring) == 0 then
    local other = class == 'interactive' and 'background' or 'interactive'
    model['share:' .. class] = math.max(model['share:' .. class], model['share:' .. other])
  end
  redis.call('ZADD', line_of(ticket), ticket.number, ticket.id)
  if rule('users', ticket.user).rpm then
    redis.call('ZADD', own_of(ticket), ticket.number, ticket.id)
  end
  redis.call('HSET', tag .. 'ticket:' .. ticket.id, 'state', 'waiting')
  if not redis.call('ZSCORE', tag .. 'rest', place_name(ticket)) then
    local finished = tonumber(redis.call('HGET', finished_of(ticket), ticket.tenant) or 0)
    redis.call('ZADD', ring, 'NX', math.max(model['vt:' .. class], finished), ticket.tenant)
    redis.call('SADD', tag .. 'models', ticket.model)
  end
end

-- Takes a tenant out of the ring. Where it had got to is kept while there are others to compare it with.
local function out_of_ring(ticket, finish)
  local ring = ring_of(ticket.model, ticket.class)
  redis.call('ZREM', ring, ticket.tenant)
  if redis.call('EXISTS', ring) == 1 then
    redis.call('HSET', finished_of(ticket), ticket.tenant, finish)
  else
    redis.call('DEL', finished_of(ticket))
  end
end

-- Takes a ticket out of the line; `tokens` is what its tenant was served thereby.
local function unstand(model, ticket, tokens)
  local class, ring = ticket.class, ring_of(ticket.model, ticket.class)
  redis.call('ZREM', line_of(ticket), ticket.id)
  redis.call('ZREM', own_of(ticket), ticket.id)
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
  else
    out_of_ring(ticket, finish)
  end
end

-- Puts a ticket that stands in no line into the queue of its user, or of the retries.
local function stand_aside(ticket, by, wait)
  local queue = queue_of(ticket, by)
  redis.call('ZADD', tag .. 'aside:' .. queue, ticket.number, ticket.id)
  if rule('users', ticket.user).rpm then
    redis.call('ZADD', own_of(ticket), ticket.number, ticket.id)
  end
  redis.call('HSET', tag .. 'ticket:' .. ticket.id, 'state', 'aside', 'aside', queue)
  redis.call('ZADD', tag .. 'back', 'NX', ms + math.ceil(wait / 1000), queue)
end

-- A tenant at its own limit rests, and a ticket that something of its own stops steps aside: nobody waits behind
-- them.
local function step_aside(model, ticket, by, wait)
  if by == 'tenant' then
    local start = redis.call('ZSCORE', ring_of(ticket.model, ticket.class), ticket.tenant)
    if start then
      out_of_ring(ticket, start)
    end
    redis.call('ZADD', tag .. 'rest', 'NX', ms + math.ceil(wait / 1000), place_name(ticket))
  else
    unstand(model, ticket, 0)
    stand_aside(ticket, by, wait)
  end
end

-- A ticket that is new, or has come back from another line, joins the end of what it belongs to.
local function join(model, ticket)
  write_ticket(ticket)
  local by, wait = held_up(model, ticket)
  if by == 'user' or by == 'retries' then
    stand_aside(ticket, by, wait)
  else
    stand(model, ticket)
    if by then
      step_aside(model, ticket, by, wait)
    end
  end
end

-- How many of a queue may go now, and when (ms) to look at it again.
local function may_go(queue, first)
  if queue == queue_of_retries(first) then
    return math.floor(model_of(first.model).budget), ms + RETRIES_BACK_MS
  end
  local key, unit = user_rate(first)
  if not unit then
    return 100, ms
  end
  local tat = tat_of(key, unit)
  local count = math.max(1, math.floor((burst_us(unit) - math.max(0, tat - us)) / unit))
  return count, ms + math.ceil(wait_us(spent(tat, unit, count), unit, 1) / 1000)
end

-- The first of a queue go back to their lines, as many as may go.
local function come_back(queue)
  local aside = tag .. 'aside:' .. queue
  local id = redis.call('ZRANGE', aside, 0, 0)[1]
  redis.call('ZREM', tag .. 'back', queue)
  if not id then
    return
  end
  local count, due = may_go(queue, ticket_of(id))
  for _, first in ipairs(count > 0 and redis.call('ZRANGE', aside, 0, count - 1) or {}) do
    local ticket = ticket_of(first)
    redis.call('ZREM', aside, first)
    stand(model_of(ticket.model), ticket)
  end
  if redis.call('EXISTS', aside) == 1 then
    redis.call('ZADD', tag .. 'back', due, queue)
  end
end

-- A tenant that has rested comes back, if anybody of it still waits.
local function come_back_tenant(name)
  redis.call('ZREM', tag .. 'rest', name)
  local first = redis.call('ZRANGE', tag .. 'line:' .. name, 0, 0)[1]
  if first then
    local ticket = ticket_of(first)
    stand(model_of(ticket.model), ticket)
  end
end

-- Whether a newcomer may take at once what there is: nobody stands in line, rests or stands aside before it.
local function is_first(model, ticket)
  local keys = { ring_of(model.name, 'interactive'), ring_of(model.name, 'background') }
  for class in pairs(SHARE) do
    keys[#keys + 1] = line_of(ticket, class)
    keys[#keys + 1] = tag .. 'aside:' .. queue_of_user(ticket, class)
  end
  if ticket.retry == '1' then
    keys[#keys + 1] = tag .. 'aside:' .. queue_of_retries(ticket)
  end
  return redis.call('EXISTS', unpack(keys)) == 0
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
  join(model_of(ticket.model), ticket)
  return true
end

-- Grants a ticket that stands in no line what it needs.
local function grant_to(model, ticket)
  local paid = take(model, ticket, ticket.id, ms + GRANT_MS)
  redis.call('HSET', tag .. 'ticket:' .. ticket.id, 'state', 'granted', 'paid', cjson.encode(paid))
  redis.call('ZADD', tag .. 'granted', ms + GRANT_MS, ticket.id)
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
      grant_to(model, ticket)
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

-- A grant that is not to be used gives back what it took.
local function revoke(model, ticket)
  local paid = cjson.decode(ticket.paid)
  model.rtat, model.ttat = model.rtat - paid[1], model.ttat - paid[2]
  give_back_shares(model, ticket, paid)
  redis.call('ZREM', tag .. 'granted', ticket.id)
  redis.call('ZREM', tag .. 'flight:' .. ticket.model, ticket.id)
end

-- A grant that nobody took up: the ticket stands where it stood.
local function withdraw(ticket)
  local model = model_of(ticket.model)
  revoke(model, ticket)
  stand(model, ticket)
end

-- A ticket goes for good, wherever it stands; what it was granted is given back.
local function leave(ticket)
  local model = model_of(ticket.model)
  if ticket.state == 'granted' then
    revoke(model, ticket)
  elseif ticket.state == 'aside' then
    redis.call('ZREM', tag .. 'aside:' .. ticket.aside, ticket.id)
    redis.call('ZREM', own_of(ticket), ticket.id)
  else
    unstand(model, ticket, 0)
  end
  redis.call('DEL', tag .. 'ticket:' .. ticket.id)
end
