-- Included by settle and ends: how many events of each type ended within the last minute, at most, and how. For the
-- flood guard; a window begins with the first end after the one before is over.
local WINDOW_MS = 60000

-- `how` is 'done' or the reason of a dead letter.
local function count_end(tag, type, how, now_ms)
  local key = tag .. 'ends:type:' .. type
  local began = redis.call('HGET', key, 'began')
  if not began or now_ms - tonumber(began) > WINDOW_MS then
    redis.call('DEL', key)
    redis.call('HSET', key, 'began', now_ms)
    redis.call('PEXPIRE', key, 2 * WINDOW_MS)
  end
  redis.call('HINCRBY', key, how, 1)
end
