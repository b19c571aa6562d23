-- roll: signs the roll of live workers, and strikes out who has not signed for a while.
--
-- Promise: by the clock of Redis, so that workers' clocks may differ.
-- Keys: the roll, a sorted set (worker -> seconds since 1970).
-- Arguments: name of the worker ('' only reads), seconds after which a worker counts as gone.
-- Reply: the names on the roll.
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
if ARGV[1] ~= '' then
  redis.call('ZADD', KEYS[1], now, ARGV[1])
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[2]))
return redis.call('ZRANGE', KEYS[1], 0, -1)
