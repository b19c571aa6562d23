-- Included by reader and abandon: which gateways have readers, and of what.

-- How long what the gateways told stays at most, should nobody look after it any more.
local KEPT_MS = 86400000

-- Whether any gateway has readers of this: 'e:<event>', or 'l:<lane>' for followers of its thread. One that was killed
-- counts until it is found to be gone.
local function is_read(tag, what)
  for _, gateway in ipairs(redis.call('ZRANGE', tag .. 'gateways', 0, -1)) do
    if redis.call('SISMEMBER', tag .. 'readers:' .. gateway, what) == 1 then
      return true
    end
  end
  return false
end

-- The events of a lane that are to be answered with one of this burst (false: none).
local function burst_of(tag, lane, burst)
  local ids = {}
  for _, id in ipairs(burst and redis.call('LRANGE', tag .. 'lane:' .. lane, 0, -1) or {}) do
    if redis.call('HGET', tag .. 'event:' .. id, 'burst') == burst then
      ids[#ids + 1] = id
    end
  end
  return ids
end

-- Notes when the last reader of something has gone. What a follower of the thread, or a reader of another message of its
-- burst, has waited for is given its time anew.
local function note_gone(tag, what, now_ms)
  local kind, name = string.sub(what, 1, 2), string.sub(what, 3)
  if is_read(tag, what) then
    return
  elseif kind == 'l:' then
    for _, id in ipairs(redis.call('LRANGE', tag .. 'lane:' .. name, 0, -1)) do
      redis.call('ZADD', tag .. 'left', 'XX', now_ms, id)
    end
    return
  end
  local turn, ended, lane, burst = unpack(redis.call('HMGET', tag .. 'event:' .. name, 'turn', 'ended', 'lane', 'burst'))
  if turn == '1' and not ended then
    for _, id in ipairs(burst_of(tag, lane, burst)) do
      redis.call('ZADD', tag .. 'left', 'XX', now_ms, id)
    end
    redis.call('ZADD', tag .. 'left', 'NX', now_ms, name)
    redis.call('PEXPIRE', tag .. 'left', KEPT_MS)
  end
end
