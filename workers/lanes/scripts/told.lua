-- told: the figures of the deployment, and how busy each of its workers is.
--
-- Promise: changes nothing.
-- Keys: the hash tag of the figures.
-- Arguments: none.
-- Reply: {{figure, total, …}, {worker, 'running limit', …}}.
local tag, loads = KEYS[1], {}
for _, name in ipairs(redis.call('ZRANGE', tag .. 'loads', 0, -1)) do
  local load = redis.call('GET', tag .. 'load:' .. name)
  if load then
    loads[#loads + 1], loads[#loads + 2] = name, load
  end
end
return { redis.call('HGETALL', tag .. 'totals'), loads }
