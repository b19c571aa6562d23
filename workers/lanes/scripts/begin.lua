-- begin: leases the lane to a worker and gives it the event.
--
-- Promise: one lease at a time. Refused when the event is not the head, is leased, not due or paused. The death is
-- counted before the work, so that an event that kills its worker is found out. The epoch is larger than any that the
-- shard gave, even after the shard lost its memory. The same token again gives the same answer, but for the age, and
-- counts no death.
-- A lane that has buried an event remembers the last turn that began since (`grave`): it supersedes what is buried.
-- How long it waited is counted from when it could have run: accepted, given back, due again; parked, from then on.
-- Keys: the shard's hash tag.
-- Arguments: now ('' for TIME), id, lane, token, owner, lease in ms, 1 to get the body.
-- Reply: {'begun', epoch, attempt, deaths, acceptance, next frame, accepted ms, cancel reason or '', body or '', 1 when
--   there is a journal, 1 when redriven, queue, hops, age in ms, ms that it waited ('' when it did not: its worker had
--   died), what it was parked for or ''}, or {why not}.
--@include clock.lua
--@include paused.lua
local tag, id, lane, token = KEYS[1], ARGV[2], ARGV[3], ARGV[4]
local key, lease_key = tag .. 'event:' .. id, tag .. 'lease:' .. lane
local state, acceptance, number, accepted, attempt, deaths, due, started, cancel, type, tenant, queue, turn, journaled,
  redriven, hops, since, waited, reason = unpack(redis.call('HMGET', key, 'state', 'acceptance', 'next', 'accepted',
    'attempt', 'deaths', 'due', 'started', 'cancel', 'type', 'tenant', 'queue', 'turn', 'journaled', 'redriven', 'hops',
    'since', 'waited', 'reason'))
if not state then
  return { 'unknown' }
end
if redis.call('LINDEX', tag .. 'lane:' .. lane, 0) ~= id then
  local ended = state == 'done' or state == 'dropped' or state == 'cancelled' or state == 'dead'
  return { ended and 'ended' or 'not_head' }
end

local us = now_us(ARGV[1])
local now_ms = math.floor(us / 1000)
local expiry = now_ms + tonumber(ARGV[6])
deaths = tonumber(deaths or 0)
local held_by, held_epoch, held_until = unpack(redis.call('HMGET', lease_key, 'token', 'epoch', 'expiry'))
local epoch
if held_by == token then
  epoch = held_epoch
  redis.call('HSET', lease_key, 'expiry', expiry)
else
  if held_until and tonumber(held_until) > now_ms then
    return { 'leased' }
  end
  if due and tonumber(due) > now_ms then
    return { 'not_due' }
  end
  if is_paused(tag, lane, type, tenant, queue) then
    redis.call('ZREM', tag .. 'ready', lane)
    return { 'paused' }
  end
  -- %.0f, since Lua would write so large a number as 1.7e+15
  epoch = string.format('%.0f', math.max(tonumber(redis.call('GET', tag .. 'epoch') or 0) + 1, us))
  deaths = deaths + 1
  redis.call('SET', tag .. 'epoch', epoch)
  redis.call('HSET', lease_key, 'owner', ARGV[5], 'token', token, 'epoch', epoch, 'event', id, 'expiry', expiry,
    'grace', 0)
  waited = ' '
  if state ~= 'running' then
    waited = math.max(0, now_ms - tonumber(since or accepted)) .. ' ' .. (state == 'waiting_limit' and reason or '')
  end
  redis.call('HSET', key, 'state', 'running', 'deaths', deaths, 'started', started or now_ms, 'waited', waited)
  local grave = tag .. 'grave:' .. lane
  if turn == '1' and tonumber(redis.call('HGET', grave, 'begun') or acceptance) < tonumber(acceptance) then
    redis.call('HSET', grave, 'begun', acceptance)
  end
  if state ~= 'running' then
    redis.call('HINCRBY', tag .. 'counts', state, -1)
    redis.call('HINCRBY', tag .. 'counts', 'running', 1)
  end
end
redis.call('ZADD', tag .. 'alarms', expiry, lane)
redis.call('ZREM', tag .. 'ready', lane)
waited = waited or ' '
local body = ARGV[7] == '1' and redis.call('GET', tag .. 'body:' .. id) or ''
return { 'begun', epoch, attempt or 1, deaths, acceptance, number, accepted, cancel or '', body, journaled and 1 or 0,
  redriven and 1 or 0, queue, hops or 0, math.max(0, now_ms - tonumber(accepted)), string.match(waited, '^%d*'),
  string.match(waited, '%a[%a_]*$') or '' }
