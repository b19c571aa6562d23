-- status: an event as users see it.
--
-- Promise: changes nothing. The place is 1 for the head of the lane, and only waiting events have one.
-- Keys: the shard's hash tag.
-- Arguments: id.
-- Reply: {} when unknown, else the fields in the order below, then the place or false.
local tag, id = KEYS[1], ARGV[1]
local event = redis.call('HMGET', tag .. 'event:' .. id, 'source', 'type', 'lane', 'state', 'reason', 'attempt',
  'accepted', 'started', 'ended', 'acceptance', 'next', 'tenant', 'user', 'traceparent')
if not event[4] then
  return {}
end
local place = false
if not event[9] and event[4] ~= 'running' then
  place = redis.call('LPOS', tag .. 'lane:' .. event[3], id)
end
event[15] = place and place + 1
return event
