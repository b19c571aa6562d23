-- cancel: stops an event on somebody's wish.
--
-- Promise: a waiting event ends as cancelled here and now, wherever in its lane it stands; a running one is marked, so
-- that from now on no text is added and any outcome becomes cancelled, and its worker is told by a message, `id reason`
-- (it also learns of it when it next appends or renews). A waiting event of which an earlier run has shown frames is
-- marked as well and is due at once: only a worker can store what was shown. An event that has ended stays as it ended.
-- Keys: the shard's hash tag.
-- Arguments: now ('' for TIME), id, reason, channel of cancels, retention in ms, grace in ms.
-- Reply: {'unknown'}, {'ended'}, or {'cancelling' or 'cancelled', id to wake, its type, its queue} (the last three
--   missing: nothing to wake).
--@include clock.lua
--@include frames.lua
--@include ending.lua
local tag, id, reason = KEYS[1], ARGV[2], ARGV[3]
local key = tag .. 'event:' .. id
local state, lane, acceptance, number, ended = unpack(
  redis.call('HMGET', key, 'state', 'lane', 'acceptance', 'next', 'ended'))
if not state then
  return { 'unknown' }
end
if ended then
  return { 'ended' }
end
if state == 'running' then
  redis.call('HSETNX', key, 'cancel', reason)
  redis.call('PUBLISH', ARGV[4], id .. ' ' .. redis.call('HGET', key, 'cancel'))
  return { 'cancelling' }
end

local now_ms = math.floor(now_us(ARGV[1]) / 1000)
if tonumber(number) > 1 then
  redis.call('HSETNX', key, 'cancel', reason)
  redis.call('HSET', key, 'due', now_ms)
  redis.call('ZADD', tag .. 'alarms', now_ms + tonumber(ARGV[6]), lane)
  return { 'cancelling', unpack(wake_of(tag, id)) }
end
local event = { lane = lane, acceptance = acceptance, number = tonumber(number), state = state, settled = {} }
end_event(tag, id, event, 'cancelled', reason, now_ms, tonumber(ARGV[5]), {})
if redis.call('LINDEX', tag .. 'lane:' .. lane, 0) ~= id then
  redis.call('LREM', tag .. 'lane:' .. lane, 1, id)
  return { 'cancelled' }
end
local head = pop_head(tag, lane, now_ms, tonumber(ARGV[6]))
return { 'cancelled', unpack(head ~= '' and wake_of(tag, head) or {}) }
