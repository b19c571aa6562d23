-- abandon: stops the turns that had readers and have had none for a while.
--
-- Promise: as by a cancel. A turn that never had a reader is not stopped, nor one whose thread is followed, nor one that is
-- to be answered with another message that is read. The readers of a gateway that has not said for a while that it is alive
-- are gone from now on; should it come back, it is told so. Bounded work per call.
-- Keys: the shard's hash tag.
-- Arguments: now ('' for TIME), how long a turn may be without a reader in ms, how long a gateway may be silent in ms, limit,
--   channel of cancels, retention in ms, grace in ms.
-- Reply: {id that was stopped, …}, {lane, id to wake, its type, its queue, …}.
--@include clock.lua
--@include frames.lua
--@include ending.lua
--@include stopping.lua
--@include reading.lua
local tag, limit = KEYS[1], tonumber(ARGV[4])
local now_ms = math.floor(now_us(ARGV[1]) / 1000)
local gateways, left = tag .. 'gateways', tag .. 'left'

for _, gateway in ipairs(redis.call('ZRANGEBYSCORE', gateways, '-inf', now_ms - tonumber(ARGV[3]))) do
  local gone = redis.call('SPOP', tag .. 'readers:' .. gateway, limit)
  for _, what in ipairs(gone) do
    note_gone(tag, what, now_ms)
  end
  if #gone < limit then
    redis.call('ZREM', gateways, gateway)
  else
    redis.call('ZADD', gateways, 0, gateway) -- the rest goes at the next looks, and `beat` knows it no more
  end
end

local function is_wanted(lane, burst)
  local read = is_read(tag, 'l:' .. lane)
  for _, other in ipairs(burst_of(tag, lane, burst)) do
    read = read or is_read(tag, 'e:' .. other)
  end
  return read
end

local terms = {
  channel = ARGV[5], now_ms = now_ms, retention_ms = tonumber(ARGV[6]), grace_ms = tonumber(ARGV[7]),
}
local stopped, wakes = {}, {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', left, '-inf', now_ms - tonumber(ARGV[2]), 'LIMIT', 0, limit)) do
  local lane, ended, burst = unpack(redis.call('HMGET', tag .. 'event:' .. id, 'lane', 'ended', 'burst'))
  if lane and not ended and is_wanted(lane, burst) then
    redis.call('ZADD', left, now_ms, id)
  else
    redis.call('ZREM', left, id)
    if lane and not ended then
      local _, wake = stop_event(tag, id, 'disconnected', false, terms)
      stopped[#stopped + 1] = id
      if #wake > 0 then
        wakes[#wakes + 1] = lane
        for _, field in ipairs(wake) do
          wakes[#wakes + 1] = field
        end
      end
    end
  end
end
return { stopped, wakes }
