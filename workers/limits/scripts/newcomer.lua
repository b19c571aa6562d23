-- Included by the scripts that an event comes to for what it needs. Their arguments from the second on: id, token, lease
-- in ms, model, fallback ('' for none), class, tenant, user, text tokens, lane, type, queue, 1 when an attempt has failed
-- before.

-- The model that is meant: the fallback while the circuit of the model is open and that of the fallback is not.
local function model_for_newcomer()
  local name, fallback = ARGV[5], ARGV[6]
  if fallback ~= '' and circuit_of(model_of(name)) > 0 and circuit_of(model_of(fallback)) == 0 then
    return fallback, ''
  end
  return name, fallback
end

-- Its ticket; the number is its own from before, that of its turn before a handoff to another queue, or the next.
local function newcomer(model, fallback, number)
  return { id = ARGV[2], model = model.name, class = ARGV[7], tenant = ARGV[8], user = ARGV[9], lane = ARGV[11],
    type = ARGV[12], queue = ARGV[13], retry = ARGV[14], tokens = estimate(model, ARGV[10]), fallback = fallback,
    number = number or tonumber(redis.call('GETDEL', tag .. 'number:' .. ARGV[2])) or redis.call('INCR', tag .. 'seq') }
end

-- The reply that names its place in line.
local function waiting(ticket)
  local place, eta, reason = place_of(ticket)
  save()
  return { 'waiting', ticket.model, place, string.format('%.3f', eta), reason }
end
