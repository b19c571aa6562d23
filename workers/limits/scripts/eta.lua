-- Included after line.lua by the scripts that say how long something waits.
--
-- It is the rates that say it: of the model, with what was spent beforehand, and of the ticket's own tenant and user.
-- Of the others it knows their tenants' weights and limits. Their users' it does not: for a moment, until those stand
-- aside, they count as if they could be served.
local MOST_TENANTS = 50       -- that are looked at; of the others it is taken that as many wait
local ROUNDS = 3              -- what others get depends on how long it takes, and the other way round

-- The other tenants that wait for a ticket's model, by class: how many of each, its weight, and what its limit leaves
-- it (us for each; nil: no limit). Beyond those looked at, `times` as many.
local function others_of(ticket)
  local others = {}
  for class in pairs(SHARE) do
    local ring, resting = ring_of(ticket.model, class), place_name({ model = ticket.model, tenant = '' }, class)
    local tenants = redis.call('ZRANGE', ring, 0, MOST_TENANTS - 1)
    for _, name in ipairs(redis.call('ZRANGE', tag .. 'rest', 0, MOST_TENANTS - 1)) do
      if string.sub(name, 1, #resting) == resting then
        tenants[#tenants + 1] = string.sub(name, #resting + 1)
      end
    end
    others[class] = { times = math.max(1, redis.call('ZCARD', ring) / MOST_TENANTS) }
    for _, tenant in ipairs(tenants) do
      if class ~= ticket.class or tenant ~= ticket.tenant then
        local limits = rule('tenants', tenant)
        local waiting = redis.call('ZCARD', line_of({ model = ticket.model, tenant = tenant }, class))
        table.insert(others[class], { waiting = waiting, weight = limits.weight or 1, unit = unit_us(limits.rpm) })
      end
    end
  end
  return others
end

-- How many of them are served before a ticket that so many of its own tenant go before, within a time (us).
local function served_before(ticket, others, rank, within)
  local weight = rule('tenants', ticket.tenant).weight or 1
  local before = 0
  for class, share in pairs(SHARE) do
    local served, own = 0, class == ticket.class
    for _, other in ipairs(others[class]) do
      local count = other.waiting
      if own then
        count = math.min(count, math.floor((rank + 1) * other.weight / weight))
      end
      if other.unit then
        count = math.min(count, math.floor(within / other.unit) + 1)
      end
      served = served + count
    end
    served = math.floor(served * others[class].times)
    before = before + (own and served or math.min(served, math.floor((rank + 1) * share / SHARE[ticket.class])))
  end
  return before
end

-- How long (us) a rate takes to let `count` units through, one after another.
local function served_us(tat, unit, count)
  return unit and math.max(0, math.max(tat, us) - us + count * unit - burst_us(unit)) or 0
end

-- How long (us) the model takes to come to a place. A turn makes several calls, and those of who is before count.
local function model_us(model, ticket, place)
  local calls = (place - 1) * math.max(1, model.calls) + 1
  local wait = math.max(served_us(model.rtat, request_us(model), calls),
    served_us(model.ttat, token_us(model), calls * ticket.tokens))
  local places = places_of(model)
  if places and model.took > 0 then
    wait = math.max(wait, place * model.took * 1000 / places)
  end
  return wait + math.max(0, circuit_of(model), (model.hold - ms) * 1000)
end

-- How long (us) its tenant's and its user's limits make a ticket wait that so many of each go before.
local function own_us(ticket, of_tenant, of_user)
  local key, unit = tenant_rate(ticket)
  local wait = unit and served_us(tat_of(key, unit), unit, of_tenant + 1) or 0
  key, unit = user_rate(ticket)
  return math.max(wait, unit and served_us(tat_of(key, unit), unit, of_user + 1) or 0)
end

-- Place in line (1: next) and seconds until it is served, as well as can be told.
local function place_of(ticket)
  local model = model_of(ticket.model)
  if ticket.state == 'granted' then
    return 1, 0, 'rate_limit'
  end
  local _, _, reason = stopped(model, ticket)
  local of_user = redis.call('ZRANK', own_of(ticket), ticket.id) or 0
  local rank = math.max(of_user, redis.call('ZCOUNT', line_of(ticket), '-inf', '(' .. ticket.number))
  local of_tenant = rank + (ticket.class == 'background' and redis.call('ZCARD', line_of(ticket, 'interactive')) or 0)
  local own, others = own_us(ticket, of_tenant, of_user), others_of(ticket)
  local place, wait = 1, math.huge
  for _ = 1, ROUNDS do
    place = rank + 1 + served_before(ticket, others, rank, wait)
    wait = math.max(own, model_us(model, ticket, place))
  end
  return place, wait / 1000000, reason or 'rate_limit'
end
