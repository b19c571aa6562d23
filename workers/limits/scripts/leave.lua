-- leave: an event that needs no capacity any more goes out of the line.
--
-- Promise: wherever it stands, at the cost of a look-up; what it was granted is given back. Unknown: nothing happens.
-- Keys: the limits' hash tag.
-- Arguments: now ('' for TIME), id.
-- Reply: 'ok'.
--@include clock.lua
--@include line.lua
leave(ARGV[2])
save()
return 'ok'
