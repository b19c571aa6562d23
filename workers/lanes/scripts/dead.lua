-- Included by settle and bury: keeps one dead letter; the oldest gives way when the shard holds `bound` of them. Returns
-- whether it was not there before. `body` is in a field of its own, since lists do not read it; '' for an event that was
-- accepted, whose body has a key already.
local function keep_dead(tag, id, reason, letter, attempts, body, now_ms, retention_ms, bound)
  local key = tag .. 'dead:' .. id
  redis.call('DEL', key)
  redis.call('HSET', key, 'letter', letter, 'attempts', attempts)
  if body ~= '' then
    redis.call('HSET', key, 'body', body)
  end
  redis.call('PEXPIRE', key, retention_ms)
  local new = redis.call('ZADD', tag .. 'dead', now_ms, id) == 1
  if new then
    redis.call('HINCRBY', tag .. 'counts', 'dead:' .. reason, 1)
  end
  local excess = redis.call('ZCARD', tag .. 'dead') - bound
  if excess > 0 then
    local oldest = redis.call('ZPOPMIN', tag .. 'dead', excess)
    for i = 1, #oldest, 2 do
      redis.call('DEL', tag .. 'dead:' .. oldest[i])
    end
  end
  return new
end
