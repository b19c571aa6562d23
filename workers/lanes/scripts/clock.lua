-- Included by every script that needs the time: microseconds since 1970, from Redis TIME,
-- so that no worker's clock decides anything. `given` is '' but in tests that turn the clock themselves.
local function now_us(given)
  if given ~= '' then
    return tonumber(given)
  end
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end
