-- record: keeps a completed step of an event in its journal, for the attempt that may have to go on from there.
--
-- Promise: refused unless owner and epoch hold the lane, and once the event is to be stopped. The same step again takes
-- the place of the earlier one. What would make the journal larger than its bound is not kept.
-- Keys: the shard's hash tag.
-- Arguments: id, lane, owner, epoch, step, entry, bound of the journal in bytes.
-- Reply: 'recorded', 'full', 'cancelled', 'stale' or 'ended'.
local tag, id, lane = KEYS[1], ARGV[1], ARGV[2]
local key, journal = tag .. 'event:' .. id, tag .. 'journal:' .. id
local lease = redis.call('HMGET', tag .. 'lease:' .. lane, 'owner', 'epoch', 'event')
local event = redis.call('HMGET', key, 'cancel', 'ended', 'journaled')
if lease[1] ~= ARGV[3] or lease[2] ~= ARGV[4] or lease[3] ~= id then
  redis.call('HINCRBY', tag .. 'counts', 'fenced', 1)
  return event[2] and 'ended' or 'stale'
end
if event[1] then
  return 'cancelled'
end
local grown = #ARGV[6] - redis.call('HSTRLEN', journal, ARGV[5])
if tonumber(event[3] or 0) + grown > tonumber(ARGV[7]) then
  return 'full'
end
redis.call('HSET', journal, ARGV[5], ARGV[6])
redis.call('HINCRBY', key, 'journaled', grown)
return 'recorded'
