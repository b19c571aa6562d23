-- settle: what came of a run.
--
-- Promise: only the holder of the lease (owner and epoch) settles, and the same token again gets the same answer.
-- An end (done, dropped, cancelled, dead) closes the stream, writes the dead letter, pops the head and names the next
-- one, whose alarm is set; otherwise the event stays the head, so that the order is kept: waiting_retry spends an
-- attempt, waiting_limit does not, queued goes on at once. The lease is given back. The deaths are cleared by a run that
-- came to an answer (an end, or a failure that is tried again); waiting_limit and queued only take back the death of
-- their own begin, since nothing may have been run: what has killed two workers stays a suspect. If the user asked to
-- stop the event, every outcome becomes cancelled, and frames of another outcome are not shown. With a queue, the event
-- waits there from now on, and is woken there; one that is to be stopped is ended by whoever begins it there, since only a
-- worker can store what was shown. What is to be rolled back has to be taken back first: any other end of it is refused, and
-- if it only waits, the next run of it does that.
-- Keys: the shard's hash tag.
-- Arguments: now ('' for TIME), id, lane, owner, epoch, token, state, reason, delay in ms, retention in ms, grace in
--   ms, error as JSON ('' for none), dead letter as JSON, bound of dead letters, the queue that a
--   handoff leads to ('' for none), the final frames.
-- Reply: {'settled', state, id to wake, its type, its queue} (the last three missing: nothing to wake), {'stale'} or
--   {'rollback'}.
--@include clock.lua
--@include fence.lua
--@include frames.lua
--@include ending.lua
--@include dead.lua
--@include window.lua
local STOP_MS = 1000  -- how long an event that is to be stopped waits for a worker at most
local tag, id, lane, token = KEYS[1], ARGV[2], ARGV[3], ARGV[6]
local state, reason, grace_ms, retention_ms = ARGV[7], ARGV[8], tonumber(ARGV[11]), tonumber(ARGV[10])
local key, lease_key = tag .. 'event:' .. id, tag .. 'lease:' .. lane
local acceptance, number, attempt, deaths, cancel, history, type, settled, settled_state, settled_wake = unpack(
  redis.call('HMGET', key, 'acceptance', 'next', 'attempt', 'deaths', 'cancel', 'history', 'type', 'settled',
    'settled_state', 'settled_wake'))

local function answer(to_wake)
  local wake = to_wake ~= '' and wake_of(tag, to_wake) or {}
  return { 'settled', state, unpack(wake) }
end

if settled == token then
  state = settled_state
  return answer(settled_wake)
end
local lease = redis.call('HMGET', lease_key, 'owner', 'epoch', 'event')
if lease[1] ~= ARGV[4] or lease[2] ~= ARGV[5] or lease[3] ~= id then
  count_refused(tag, 'settle')
  return { 'stale' }
end

local waits = state == 'queued' or state == 'waiting_retry' or state == 'waiting_limit'
if cancel == 'rolled_back' and state ~= 'cancelled' and not waits then
  return { 'rollback' }
end

local now_ms = math.floor(now_us(ARGV[1]) / 1000)
local frames = {}
local queue, delay_ms, given_up = ARGV[15], tonumber(ARGV[9]), state == 'dead' or state == 'dropped'
if not cancel or state == 'cancelled' or given_up then
  for i = 16, cancel and given_up and #ARGV - 1 or #ARGV do
    frames[#frames + 1] = ARGV[i]
  end
end
if cancel and waits and (queue ~= '' or cancel == 'rolled_back' or tonumber(number) > 1) then
  delay_ms = math.min(delay_ms, STOP_MS)
elseif cancel then
  state, reason = 'cancelled', cancel
end
if ARGV[12] ~= '' and state ~= 'cancelled' then
  local entry = '{"at":' .. string.format('%.0f', now_ms) .. ',"error":' .. ARGV[12] .. '}'
  history = history and (string.sub(history, 1, -2) .. ',' .. entry .. ']') or ('[' .. entry .. ']')
  redis.call('HSET', key, 'history', history)
end

local to_wake = ''
if waits and state ~= 'cancelled' then
  local due = now_ms + delay_ms
  local alarm, since = due, now_ms
  deaths = deaths - 1
  if queue ~= '' then
    redis.call('HSET', key, 'queue', queue)
    redis.call('HINCRBY', key, 'hops', 1)
  end
  if state == 'queued' then
    to_wake, alarm = id, now_ms + grace_ms
  elseif state == 'waiting_retry' then
    attempt, deaths, since = tonumber(attempt or 1) + 1, 0, due
    redis.call('HINCRBY', tag .. 'counts', 'retry:' .. reason, 1)
  end
  redis.call('HSET', key, 'state', state, 'reason', reason, 'deaths', deaths, 'due', due, 'since', since,
    'attempt', attempt or 1, 'settled', token, 'settled_state', state, 'settled_wake', to_wake)
  redis.call('DEL', lease_key)
  redis.call('ZADD', tag .. 'alarms', alarm, lane)
  if state == 'waiting_limit' then
    redis.call('ZREM', tag .. 'ready', lane)
  else
    redis.call('ZADD', tag .. 'ready', since, lane)
  end
  redis.call('HINCRBY', tag .. 'counts', 'running', -1)
  redis.call('HINCRBY', tag .. 'counts', state, 1)
else
  if state == 'dead' then
    keep_dead(tag, id, reason, ARGV[13], history or '[]', '', now_ms, retention_ms, tonumber(ARGV[14]))
    redis.call('HSETNX', tag .. 'grave:' .. lane, 'begun', 0)
    redis.call('PEXPIRE', tag .. 'grave:' .. lane, retention_ms)
  end
  if state == 'dead' or state == 'done' then
    count_end(tag, type, state == 'dead' and reason or state, now_ms)
  end
  to_wake = pop_head(tag, lane, now_ms, grace_ms)
  local event = {
    lane = lane, acceptance = acceptance, number = tonumber(number), state = 'running',
    settled = { 'settled', token, 'settled_state', state, 'settled_wake', to_wake },
  }
  end_event(tag, id, event, state, reason, now_ms, retention_ms, frames)
end
return answer(to_wake)
