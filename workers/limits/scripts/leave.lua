-- leave: an event that needs no capacity any more goes out of the line.
--
-- Promise: wherever it stands, at the cost of a look-up; what it was granted is given back. Unknown: nothing happens.
-- Keys: the limits' hash tag.
-- Arguments: now ('' for TIME), id.
-- Reply: 1, or 0 when it is unknown.
--@include clock.lua
--@include model.lua
--@include line.lua
local ticket = ticket_of(ARGV[2])
if not ticket then
  return 0
end
leave(ticket)
save()
return 1
