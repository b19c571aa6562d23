-- tell: adds what a process has counted to the figures of the deployment, and says how busy it is.
--
-- Promise: figures only grow. The same number of the same process again adds nothing, so that a call whose reply was
-- lost may be repeated (within an hour). Who has not told for a while does not count among the busy.
-- Keys: the hash tag of the figures.
-- Arguments: id of the process, number of the call (from 1), name of the worker ('' for none), tasks that it runs and how
--   many it may run, seconds after which that is void, then figure, growth, …
-- Reply: 1, or 0 when it had been told before.
local tag, process, name, seconds = KEYS[1], ARGV[1], ARGV[3], tonumber(ARGV[6])
if name ~= '' then
  local now = tonumber(redis.call('TIME')[1])
  redis.call('SET', tag .. 'load:' .. name, ARGV[4] .. ' ' .. ARGV[5], 'EX', seconds)
  redis.call('ZADD', tag .. 'loads', now, name)
  redis.call('ZREMRANGEBYSCORE', tag .. 'loads', '-inf', now - seconds)
end
local told = tag .. 'told:' .. process
if tonumber(redis.call('GET', told) or 0) >= tonumber(ARGV[2]) then
  return 0
end
for i = 7, #ARGV, 2 do
  redis.call('HINCRBYFLOAT', tag .. 'totals', ARGV[i], ARGV[i + 1])
end
redis.call('SET', told, ARGV[2], 'EX', 3600)
return 1
