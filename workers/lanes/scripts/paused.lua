-- Included by begin and rouse: whether an event is paused. If so its lane is `held`, where resume finds it.
local function is_paused(tag, lane, type, tenant, queue)
  local paused = redis.call('SMISMEMBER', tag .. 'paused', 'type:' .. type, 'tenant:' .. tenant, 'queue:' .. queue)
  if paused[1] + paused[2] + paused[3] == 0 then
    return false
  end
  redis.call('SADD', tag .. 'held', lane)
  return true
end
