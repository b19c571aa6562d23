-- redrive: gives a dead event another life, under its old id and in its old place.
--
-- Promise: only a dead letter that is still kept is redriven, and only once: the letter goes, in the same step. Once a
-- later-accepted turn of the lane has begun, the event is superseded and stays where it is, unless forced. It stands
-- before every event that was accepted later and has not begun. Its attempts begin anew, its journal and history are
-- kept, its frames go on after the old end, and its deadline counts from now, whatever `expirytime` it was sent with:
-- whoever redrives it wants it answered.
-- Keys: the shard's hash tag.
-- Arguments: now ('' for TIME), id, 1 to force, grace in ms, the frame that says so.
-- Reply: {'gone'} no letter, {'refused'} a letter of what was never accepted, {'superseded'}, or
--   {'redriven', id to wake, its type, its queue} (the last three missing: nothing to wake).
--@include clock.lua
--@include frames.lua
--@include ending.lua
--@include turns.lua
local tag, id = KEYS[1], ARGV[2]
local key = tag .. 'event:' .. id
if redis.call('EXISTS', tag .. 'dead:' .. id) == 0 then
  return { 'gone' }
end
local state, lane, acceptance, number = unpack(redis.call('HMGET', key, 'state', 'lane', 'acceptance', 'next'))
if state ~= 'dead' then
  return { 'refused' }
end
local begun = tonumber(redis.call('HGET', tag .. 'grave:' .. lane, 'begun') or 0)
if begun > tonumber(acceptance) and ARGV[3] ~= '1' then
  return { 'superseded' }
end

local now_ms = math.floor(now_us(ARGV[1]) / 1000)
redis.call('DEL', tag .. 'dead:' .. id)
redis.call('ZREM', tag .. 'dead', id)
number = write_frames(tag, id, acceptance, tonumber(number), { ARGV[5] }, nil)
redis.call('HDEL', key, 'reason', 'ended', 'started', 'due', 'since', 'waited', 'cancel', 'settled', 'settled_state',
  'settled_wake', 'hops', 'burst')
redis.call('HSET', key, 'state', 'queued', 'attempt', 1, 'deaths', 0, 'accepted', now_ms, 'next', number, 'redriven', 1)
redis.call('PERSIST', key)
redis.call('PERSIST', tag .. 'body:' .. id)
redis.call('PERSIST', tag .. 'out:' .. id)
redis.call('PERSIST', tag .. 'journal:' .. id)
if redis.call('ZSCORE', tag .. 'turns:' .. lane, id) then
  note_turn(tag, lane, id, acceptance)
end
redis.call('ZADD', tag .. 'open', now_ms, id)
redis.call('ZREM', tag .. 'ended', id)
redis.call('HINCRBY', tag .. 'counts', 'queued', 1)

local waiting, later = tag .. 'lane:' .. lane, nil
for _, other in ipairs(redis.call('LRANGE', waiting, 0, -1)) do
  local accepted, started = unpack(redis.call('HMGET', tag .. 'event:' .. other, 'acceptance', 'started'))
  if accepted and not started and tonumber(accepted) > tonumber(acceptance) then
    later = other
    break
  end
end
if later then
  redis.call('LINSERT', waiting, 'BEFORE', later, id)
else
  redis.call('RPUSH', waiting, id)
end
if redis.call('LINDEX', waiting, 0) ~= id then
  return { 'redriven' }
end
arm(tag, lane, id, now_ms, tonumber(ARGV[4]))
return { 'redriven', unpack(wake_of(tag, id)) }
