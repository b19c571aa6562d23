-- sweep: looks at the lanes whose alarm is due.
--
-- Promise: bounded work per call. A live lease re-arms its alarm at its expiry, an event that is not due at its due
-- time; an empty lane loses its alarm. Every other lane is to be woken, and its alarm moves on by a grace that doubles
-- with each wake-up up to a cap and is reset by begin: a lane is looked at until somebody takes it up. Dead letters
-- that are past retention are forgotten. Names the ended events whose `where` record is to expire.
-- Keys: the shard's hash tag.
-- Arguments: now ('' for TIME), limit, first grace in ms, largest grace in ms, retention in ms.
-- Reply: {lane, id, type, queue, lane, …}, {ended ids}.
--@include clock.lua
local tag, limit, first_grace, last_grace = KEYS[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local now_ms = math.floor(now_us(ARGV[1]) / 1000)
local alarms, wakes = tag .. 'alarms', {}

for _, lane in ipairs(redis.call('ZRANGEBYSCORE', alarms, '-inf', now_ms, 'LIMIT', 0, limit)) do
  local lease_key = tag .. 'lease:' .. lane
  local head = redis.call('LINDEX', tag .. 'lane:' .. lane, 0)
  if not head then
    redis.call('ZREM', alarms, lane)
    redis.call('ZREM', tag .. 'ready', lane)
    redis.call('DEL', lease_key)
  else
    local lease = redis.call('HMGET', lease_key, 'expiry', 'grace')
    local type, queue, due, state = unpack(redis.call('HMGET', tag .. 'event:' .. head, 'type', 'queue', 'due', 'state'))
    local later = math.max(tonumber(lease[1] or 0), tonumber(due or 0))
    if later > now_ms then
      redis.call('ZADD', alarms, later, lane)
    else
      local grace = math.max(tonumber(lease[2] or 0), first_grace)
      redis.call('HSET', lease_key, 'grace', math.min(grace * 2, last_grace))
      redis.call('ZADD', alarms, now_ms + grace, lane)
      if state ~= 'waiting_limit' then -- that one is only to ask again
        redis.call('ZADD', tag .. 'ready', 'NX', now_ms, lane)
      end
      wakes[#wakes + 1], wakes[#wakes + 2], wakes[#wakes + 3], wakes[#wakes + 4] = lane, head, type, queue
    end
  end
end

local forgotten = redis.call('ZRANGEBYSCORE', tag .. 'dead', '-inf', now_ms - tonumber(ARGV[5]), 'LIMIT', 0, limit)
for _, id in ipairs(forgotten) do
  redis.call('ZREM', tag .. 'dead', id)
  redis.call('DEL', tag .. 'dead:' .. id)
end
-- more of these than of alarms: every event ends, and hardly any alarm rings
return { wakes, redis.call('ZRANGE', tag .. 'ended', 0, limit * 5 - 1) }
