-- join: moves the messages that steer a running turn into its journal.
--
-- Promise: only the holder of the lease (owner and epoch) takes them, and not once the event is to be stopped. Taken are
-- the turns right behind the running one that are to steer it or came in one burst with it, are its user's, have not begun
-- and are not paused; what needs no turn is passed over. Each is in the journal in the same instant as it leaves the lane
-- and ends as done, and the end entry of its stream points into the running one's stream, after what has been shown by now.
-- A journal that is full takes no more. Asked again, it gives what has joined at this step before as well.
-- Keys: the shard's hash tag.
-- Arguments: now ('' for TIME), id, lane, owner, epoch, step, bound of the journal in bytes, retention in ms.
-- Reply: {'joined', name of the entry, body, …} or {'stale'}, {'cancelled'}.
--@include clock.lua
--@include paused.lua
--@include fence.lua
--@include frames.lua
--@include ending.lua
local tag, id, lane, step = KEYS[1], ARGV[2], ARGV[3], ARGV[6]
local key, journal = tag .. 'event:' .. id, tag .. 'journal:' .. id
local lease = redis.call('HMGET', tag .. 'lease:' .. lane, 'owner', 'epoch', 'event')
if lease[1] ~= ARGV[4] or lease[2] ~= ARGV[5] or lease[3] ~= id then
  count_refused(tag, 'journal')
  return { 'stale' }
end
local event = redis.call('HMGET', key, 'acceptance', 'next', 'cancel', 'journaled', 'user', 'burst')
if event[3] then
  return { 'cancelled' }
end

local now_ms, journaled = math.floor(now_us(ARGV[1]) / 1000), tonumber(event[4] or 0)
local pointer = ',"into":{"event":"' .. id .. '","after":"' .. event[1] .. '-' .. (tonumber(event[2]) - 1) .. '"}'
for _, other in ipairs(redis.call('LRANGE', tag .. 'lane:' .. lane, 1, -1)) do
  local acceptance, number, state, user, steers, turn, type, tenant, queue, burst = unpack(redis.call('HMGET',
    tag .. 'event:' .. other, 'acceptance', 'next', 'state', 'user', 'steers', 'turn', 'type', 'tenant', 'queue', 'burst'))
  if turn == '1' then
    local body = redis.call('GET', tag .. 'body:' .. other)
    local joins = steers or (burst and burst == event[6])
    if not joins or not body or state ~= 'queued' or number ~= '1' or user ~= event[5]
      or journaled + #body > tonumber(ARGV[7]) or is_paused(tag, lane, type, tenant, queue) then
      break
    end
    -- as the journal keeps every entry: the ids of the items that it has shown, then what it holds
    redis.call('HSET', journal, step .. ':' .. acceptance .. ':' .. other, '[]\n' .. body)
    journaled = redis.call('HINCRBY', key, 'journaled', #body)
    redis.call('LREM', tag .. 'lane:' .. lane, 1, other)
    redis.call('HSET', tag .. 'event:' .. other, 'into', id)
    local ended = {
      lane = lane, acceptance = acceptance, number = 1, state = state, settled = {}, pointer = pointer,
    }
    end_event(tag, other, ended, 'done', '', now_ms, tonumber(ARGV[8]), {})
    local grave = tag .. 'grave:' .. lane
    if tonumber(redis.call('HGET', grave, 'begun') or acceptance) < tonumber(acceptance) then
      redis.call('HSET', grave, 'begun', acceptance)
    end
  end
end

local joined = { 'joined' }
for _, name in ipairs(redis.call('HKEYS', journal)) do
  if string.sub(name, 1, #step + 1) == step .. ':' then
    joined[#joined + 1], joined[#joined + 2] = name, redis.call('HGET', journal, name)
  end
end
return joined
