-- place: where an event stands in line.
--
-- Promise: changes nothing.
-- Keys: the limits' hash tag.
-- Arguments: now ('' for TIME), id.
-- Reply: {} when it has no ticket, else {model, place, seconds as text, reason}.
--@include clock.lua
--@include model.lua
--@include line.lua
--@include eta.lua
local ticket = ticket_of(ARGV[2])
if not ticket then
  return {}
end
local place, eta, reason = place_of(ticket)
return { ticket.model, place, string.format('%.3f', eta), reason }
