-- Included after line.lua by the scripts that say how long something waits.
local MOST_TENANTS = 50       -- that are looked at; of the others it is taken that as many wait

-- How many stand before a ticket, or will be served before it: those of other tenants as their weight has it.
local function others_before(ticket, rank)
  local weight = rule('tenants', ticket.tenant).weight or 1
  local before = 0
  for class, share in pairs(SHARE) do
    local ring, others, own = ring_of(ticket.model, class), 0, class == ticket.class
    local tenants = redis.call('ZRANGE', ring, 0, MOST_TENANTS - 1)
    for _, tenant in ipairs(tenants) do
      if not (own and tenant == ticket.tenant) then
        local waiting = redis.call('ZCARD', tag .. 'line:' .. ticket.model .. ':' .. class .. ':' .. tenant)
        if own then
          waiting = math.min(waiting, math.floor((rank + 1) * (rule('tenants', tenant).weight or 1) / weight))
        end
        others = others + waiting
      end
    end
    others = math.floor(others * math.max(1, redis.call('ZCARD', ring) / MOST_TENANTS))
    before = before + (own and others or math.min(others, math.floor((rank + 1) * share / SHARE[ticket.class])))
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
  local place = rank + 1 + others_before(ticket, rank)
  local wait = model_us(model, ticket, place)
  for rate, count in pairs({ [tenant_rate] = of_tenant + 1, [user_rate] = of_user + 1 }) do
    local key, unit = rate(ticket)
    wait = math.max(wait, unit and served_us(tat_of(key, unit), unit, count) or 0)
  end
  return place, wait / 1000000, reason or 'rate_limit'
end
