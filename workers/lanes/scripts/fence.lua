-- Included by every script that refuses the write of a stale worker: counts it, in all and by kind of write.
local function count_refused(tag, kind)
  redis.call('HINCRBY', tag .. 'counts', 'fenced', 1)
  redis.call('HINCRBY', tag .. 'counts', 'fenced:' .. kind, 1)
end
