-- Included by cancel and accept, after frames.lua and ending.lua: how an event is stopped on somebody's wish.

-- Ends a waiting event, or marks one that a worker has to end: one that runs, one of which an earlier run has shown
-- frames, and, if `for_another` is to run in its thread, one that makes the thread. The first reason stays. `terms`:
-- channel of cancels, now_ms, retention_ms, grace_ms. Returns 'unknown', 'ended', 'cancelling' or 'cancelled', and the
-- wake-up that follows from it, if one does.
local function stop_event(tag, id, reason, for_another, terms)
  local key = tag .. 'event:' .. id
  local state, lane, acceptance, number, ended, type, into = unpack(
    redis.call('HMGET', key, 'state', 'lane', 'acceptance', 'next', 'ended', 'type', 'into'))
  if not state then
    return 'unknown', {}
  end
  if into then
    return stop_event(tag, into, reason, for_another, terms) -- the turn that it has joined
  end
  if ended then
    return 'ended', {}
  end
  if state == 'running' then
    redis.call('HSETNX', key, 'cancel', reason)
    redis.call('PUBLISH', terms.channel, id .. ' ' .. redis.call('HGET', key, 'cancel'))
    return 'cancelling', {}
  end
  if tonumber(number) > 1 or (for_another and type == 'chatkit.threads.create') then
    redis.call('HSETNX', key, 'cancel', reason)
    redis.call('HSET', key, 'due', terms.now_ms)
    redis.call('ZADD', tag .. 'alarms', terms.now_ms + terms.grace_ms, lane)
    if redis.call('LINDEX', tag .. 'lane:' .. lane, 0) == id then
      redis.call('ZADD', tag .. 'ready', terms.now_ms, lane)
    end
    return 'cancelling', wake_of(tag, id)
  end
  local event = { lane = lane, acceptance = acceptance, number = tonumber(number), state = state, settled = {} }
  end_event(tag, id, event, 'cancelled', reason, terms.now_ms, terms.retention_ms, {})
  if redis.call('LINDEX', tag .. 'lane:' .. lane, 0) ~= id then
    redis.call('LREM', tag .. 'lane:' .. lane, 1, id)
    return 'cancelled', {}
  end
  local head = pop_head(tag, lane, terms.now_ms, terms.grace_ms)
  return 'cancelled', head ~= '' and wake_of(tag, head) or {}
end
