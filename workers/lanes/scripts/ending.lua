-- Included by settle and cancel, after frames.lua: how an event ends and how its lane goes on.

-- The wake-up of an event: id, type, queue; empty when its record is gone.
local function wake_of(tag, id)
  local event = redis.call('HMGET', tag .. 'event:' .. id, 'type', 'queue')
  if not event[1] then
    return {}
  end
  return { id, event[1], event[2] }
end

-- Sets the alarm of a lane whose head has changed, behind its wake-up, and from when on the head could run. Returns whether
-- it is to be woken now: one that is not due is woken by the alarm.
local function arm(tag, lane, head, now_ms, grace_ms)
  local due = tonumber(redis.call('HGET', tag .. 'event:' .. head, 'due') or 0)
  redis.call('ZADD', tag .. 'alarms', due > now_ms and due or now_ms + grace_ms, lane)
  redis.call('ZADD', tag .. 'ready', math.max(due, now_ms), lane)
  return due <= now_ms
end

-- Takes the head off its lane. Returns the id of the next head, if it is to be woken, and else ''. Its alarm is set; a lane
-- without any is gone.
local function pop_head(tag, lane, now_ms, grace_ms)
  redis.call('LPOP', tag .. 'lane:' .. lane)
  redis.call('DEL', tag .. 'lease:' .. lane)
  local head = redis.call('LINDEX', tag .. 'lane:' .. lane, 0)
  if not head then
    redis.call('ZREM', tag .. 'alarms', lane)
    redis.call('ZREM', tag .. 'ready', lane)
    return ''
  end
  return arm(tag, lane, head, now_ms, grace_ms) and head or ''
end

-- How long the frames of a session's event stay: the secret of the session is one of them.
local SECRET_MS = 60000

-- Writes the last frames and the end entry, and starts the clocks that clean up. `event` has its lane, its acceptance number,
-- the next frame number, the state that it leaves, of a settlement the fields that answer it again
-- and, where its clients go on reading elsewhere, a pointer for the end entry.
local function end_event(tag, id, event, state, reason, now_ms, retention_ms, frames)
  local ending = '{"state":"' .. state .. '","reason":' .. (reason ~= '' and '"' .. reason .. '"' or 'null')
    .. (event.pointer or '') .. '}'
  local number = write_frames(tag, id, event.acceptance, event.number, frames, ending)
  local key = tag .. 'event:' .. id
  redis.call('HSET', key, 'state', state, 'reason', reason, 'ended', now_ms, 'next', number, 'deaths', 0,
    unpack(event.settled))
  redis.call('PEXPIRE', key, retention_ms)
  redis.call('PEXPIRE', tag .. 'body:' .. id, retention_ms)
  redis.call('PEXPIRE', tag .. 'turns:' .. event.lane, retention_ms)
  local type = redis.call('HGET', key, 'type')
  local secret = string.find(type, 'chatkit.session.', 1, true) == 1
  redis.call('PEXPIRE', tag .. 'out:' .. id, secret and math.min(SECRET_MS, retention_ms) or retention_ms)
  if state == 'dead' then
    redis.call('PEXPIRE', tag .. 'journal:' .. id, retention_ms)
  else
    redis.call('DEL', tag .. 'journal:' .. id) -- only a dead event may be run again
  end
  redis.call('ZREM', tag .. 'open', id)
  -- `where:<id>` may live on another node: the sweeper starts its clock
  redis.call('ZADD', tag .. 'ended', now_ms, id)
  redis.call('HINCRBY', tag .. 'counts', event.state, -1)
  redis.call('HINCRBY', tag .. 'counts', state, 1)
  redis.call('HINCRBY', tag .. 'counts', 'ended:' .. state .. ':' .. type, 1)
  if state == 'dropped' then
    redis.call('HINCRBY', tag .. 'counts', 'dropped:' .. reason, 1)
  end
end
