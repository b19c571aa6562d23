-- lane: what stands in a lane, and what its head waits for.
--
-- Promise: changes nothing; costs the same however much waits.
-- Keys: the shard's hash tag.
-- Arguments: now ('' for TIME), lane.
-- Reply: '' when nothing stands in it, else a JSON object; what is not known is left out, and a time from now that is past
--   is negative.
--@include clock.lua
local tag, lane = KEYS[1], ARGV[2]
local id = redis.call('LINDEX', tag .. 'lane:' .. lane, 0)
if not id then
  return ''
end
local now_ms = math.floor(now_us(ARGV[1]) / 1000)
local function from_now(moment)
  return moment and tonumber(moment) - now_ms or nil
end
local function known(value)
  return value or nil
end
local state, reason, attempt, deaths, accepted, started, type, tenant, queue, due, history = unpack(redis.call('HMGET',
  tag .. 'event:' .. id, 'state', 'reason', 'attempt', 'deaths', 'accepted', 'started', 'type', 'tenant', 'queue', 'due',
  'history'))
if not state then
  return ''
end
local lease = redis.call('HMGET', tag .. 'lease:' .. lane, 'owner', 'expiry', 'event')
local held = lease[3] == id
local paused = redis.call('SMISMEMBER', tag .. 'paused', 'type:' .. type, 'tenant:' .. tenant, 'queue:' .. queue)
return cjson.encode({
  events = redis.call('LLEN', tag .. 'lane:' .. lane), id = id, state = state, reason = known(reason),
  attempt = tonumber(attempt or 1), deaths = tonumber(deaths or 0), accepted = tonumber(accepted),
  started = known(started) and tonumber(started), type = type, tenant = tenant, queue = queue, due_in = from_now(due),
  worker = held and lease[1] or nil, lease_in = held and from_now(lease[2]) or nil,
  alarm_in = from_now(redis.call('ZSCORE', tag .. 'alarms', lane)), history = known(history),
  by_type = paused[1] == 1, by_tenant = paused[2] == 1, by_queue = paused[3] == 1,
})
