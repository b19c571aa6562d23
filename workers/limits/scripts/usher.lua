-- usher: shows an event to its place before any worker is woken for it.
--
-- Promise: who has to wait gets the ticket that `reserve` would give, and nobody need be woken. Who could go at once is
-- granted what it needs, and is to be woken: its `reserve` takes the grant up. Where nothing is limited nothing is
-- taken or kept, and who is known already (in line, granted, reserved) is only to be woken.
-- Keys: the limits' hash tag.
-- Arguments: now ('' for TIME), and those of newcomer.lua (token and lease count for nothing).
-- Reply: {'wake'} or {'waiting', model, place, seconds as text, reason}.
--@include clock.lua
--@include model.lua
--@include line.lua
--@include eta.lua
--@include newcomer.lua
local id = ARGV[2]
local held_by = redis.call('HGET', tag .. 'res:' .. id, 'model')
if redis.call('EXISTS', tag .. 'ticket:' .. id) == 1 or (held_by and is_in_flight(held_by, id)) then
  return { 'wake' }
end
redis.call('DEL', tag .. 'res:' .. id)  -- one that has run out
local name, fallback = model_for_newcomer()
local model = model_of(name)

local function is_limited()
  local limits = model.rule
  return limits.rpm or limits.tpm or places_of(model) or model.open > 0 or model.hold > ms
    or rule('tenants', ARGV[8]).rpm or rule('users', ARGV[9]).rpm
end

if not is_limited() then
  return { 'wake' }
end
local ticket = newcomer(model, fallback)
if not is_first(model, ticket) or stopped(model, ticket) then
  join(model, ticket)
  return waiting(ticket)
end
write_ticket(ticket)
grant_to(model, ticket)
save()
return { 'wake' }
