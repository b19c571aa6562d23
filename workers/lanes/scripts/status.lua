-- status: an event as users see it.
--
-- Promise: changes nothing. The place is 1 for the head of the lane, and only waiting events have one. What has joined
-- another turn is as that turn is.
-- Keys: the shard's hash tag.
-- Arguments: id.
-- Reply: {} when unknown, else the fields in the order below, then the place or false, and the id of the turn that
--   it has joined or false.
local tag, id = KEYS[1], ARGV[1]
local event = redis.call('HMGET', tag .. 'event:' .. id, 'source', 'type', 'lane', 'state', 'reason', 'attempt',
  'accepted', 'started', 'ended', 'acceptance', 'next', 'tenant', 'user', 'traceparent', 'into')
if not event[4] then
  return {}
end
local place = false
if not event[9] and event[4] ~= 'running' then
  place = redis.call('LPOS', tag .. 'lane:' .. event[3], id)
end
local into = event[15]
event[15], event[16] = place and place + 1, into
if into then
  local turn = redis.call('HMGET', tag .. 'event:' .. into, 'state', 'reason', 'attempt', 'started', 'ended')
  if turn[1] then
    event[4], event[5], event[6], event[8], event[9] = unpack(turn)
  end
end
return event
