-- accept: puts an event at the end of its lane and numbers it, once.
--
-- Promise: an event that is known gets its first acceptance again and changes nothing. A full lane or a full shard
-- refuses; a refused id goes to the outbox, so that its `where` record expires. An event is refused as well when the one
-- before it in its batch and lane was for want of room, though there may be some by now: it would overtake. The head of
-- a lane is woken by the caller, and the alarm behind that wake-up is set here. Waking is idempotent: a duplicate of a
-- waiting head wakes it.
-- A turn that meets others of its user in its lane: `reject` refuses it while one runs or waits; `interrupt` and `rollback`
-- stop all of them, in the same instant, and it is the next to run (what needs no turn stays, and keeps its place). `steer`
-- waits to join the one that runs. Turns of another user are not in its way: whose the thread is, its worker knows.
-- A turn with a quiet time is not due before its lane has had no further message of its user for that long. One that comes
-- meanwhile makes all of that burst wait anew, for a number of quiet times from the first one's acceptance at most, meets the
-- others of the burst in no mode, and is to join the first of them when that runs. Nobody is woken for it: the alarm does.
-- Keys: the shard's hash tag.
-- Arguments: now ('' for TIME), id, lane, id of the one before ('' for none), bound of the lane, bound of the shard,
--   grace in ms, type, queue, tenant, user, source, traceparent ('' for none), 1 when it needs a turn, 1 when it was a
--   dead letter, body, 1 when it is a turn of a thread that clients follow,
--   mode of double texting, channel of cancels, retention in ms, quiet time in ms (0: none), 1 when it may join a burst,
--   quiet times that a burst waits at most.
-- Reply: {'new', acceptance, id to wake, its type, its queue} (the last three missing: nothing to wake),
--   {'known', acceptance, state, 1 to wake, type, queue}, {'busy', id of the turn}, {'lane_full'} or {'system_full'}.
--@include clock.lua
--@include turns.lua
--@include frames.lua
--@include ending.lua
--@include stopping.lua
--@include burst.lua
local REJECTED_MS = 10000  -- how long the rest of a batch may find out that it overtakes nobody
local tag, id, lane = KEYS[1], ARGV[2], ARGV[3]
local key, waiting = tag .. 'event:' .. id, tag .. 'lane:' .. lane

local known = redis.call('HMGET', key, 'acceptance', 'state', 'type', 'queue', 'due')
local now_ms = math.floor(now_us(ARGV[1]) / 1000)
if known[1] then
  local wake = known[2] == 'queued' and redis.call('LINDEX', waiting, 0) == id and tonumber(known[5] or 0) <= now_ms
  return { 'known', known[1], known[2], wake and 1 or 0, known[3], known[4] }
end

local before = ARGV[4] == '' or redis.call('EXISTS', tag .. 'event:' .. ARGV[4], tag .. 'rejected:' .. ARGV[4]) > 0
local mode, busy, quiet_ms = ARGV[18], nil, tonumber(ARGV[21])
local burst, latest, due, members, first
if quiet_ms > 0 and ARGV[22] == '1' then
  burst, latest, due, members = open_burst(tag, waiting, ARGV[11])
  first = members[#members]
end
local stops = mode == 'interrupt' or mode == 'rollback'
if stops or mode == 'reject' then
  for _, other in ipairs(redis.call('LRANGE', waiting, 0, -1)) do
    local turn, user = unpack(redis.call('HMGET', tag .. 'event:' .. other, 'turn', 'user'))
    local its_burst = burst and redis.call('HGET', tag .. 'event:' .. other, 'burst')
    if turn == '1' and user == ARGV[11] and (not burst or its_burst ~= burst) then
      busy = busy or {}
      busy[#busy + 1] = other
      if mode == 'reject' then
        redis.call('ZADD', tag .. 'ended', now_ms, id)
        redis.call('SET', tag .. 'rejected:' .. id, other, 'PX', REJECTED_MS)
        return { 'busy', other }
      end
    end
  end
end
local refused = not busy and redis.call('LLEN', waiting) >= tonumber(ARGV[5]) and 'lane_full'
  or (not before or redis.call('ZCARD', tag .. 'open') >= tonumber(ARGV[6])) and 'system_full'
if refused then
  redis.call('ZADD', tag .. 'ended', now_ms, id)
  return { refused }
end

local terms = {
  channel = ARGV[19], now_ms = now_ms, retention_ms = tonumber(ARGV[20]), grace_ms = tonumber(ARGV[7]),
}
for _, other in ipairs(busy or {}) do
  stop_event(tag, other, mode == 'rollback' and 'rolled_back' or 'interrupted', true, terms)
end

local acceptance = redis.call('INCR', tag .. 'seq')
redis.call('HSET', key, 'state', 'queued', 'acceptance', acceptance, 'next', 1, 'accepted', now_ms, 'lane', lane,
  'type', ARGV[8], 'queue', ARGV[9], 'tenant', ARGV[10], 'user', ARGV[11], 'source', ARGV[12],
  'traceparent', ARGV[13], 'turn', ARGV[14])
-- beside the record, which Redis keeps small as long as its values are
redis.call('SET', tag .. 'body:' .. id, ARGV[16])
if ARGV[15] == '1' then
  redis.call('HSET', key, 'redriven', 1)
end
redis.call('ZADD', tag .. 'open', now_ms, id)
redis.call('ZREM', tag .. 'ended', id)
redis.call('HINCRBY', tag .. 'counts', 'queued', 1)
redis.call('RPUSH', waiting, id)
if mode == 'steer' then
  redis.call('HSET', key, 'steers', 1)
end
if ARGV[17] == '1' then
  note_turn(tag, lane, id, acceptance)
end
if quiet_ms > 0 then
  latest = latest or now_ms + tonumber(ARGV[23]) * quiet_ms
  due = math.max(due or 0, math.min(now_ms + quiet_ms, latest))
  redis.call('HSET', key, 'burst', burst or acceptance, 'latest', latest)
  members = members or {}
  members[#members + 1] = id
  wait_until(tag, members, due)
end
local head = redis.call('LINDEX', waiting, 0)
if head == id then
  if arm(tag, lane, id, now_ms, terms.grace_ms) then
    return { 'new', acceptance, id, ARGV[8], ARGV[9] }
  end
elseif head == first then
  if due > now_ms then
    arm(tag, lane, head, now_ms, terms.grace_ms)
  end
elseif busy and redis.call('HGET', tag .. 'event:' .. head, 'state') ~= 'running' then
  -- a worker has to end it first, or it needs no turn
  return { 'new', acceptance, unpack(wake_of(tag, head)) }
end
return { 'new', acceptance }
