-- take: pops messages of kombu's lists and records them as taken in the same instant, so that none can be lost between.
--
-- Keys: the lists, in the order of their turn; then kombu's index of what is taken (a sorted set), and the messages.
-- Arguments: how many at most, now in seconds.
-- Reply: {list, item, delivery tag that it is recorded under} each; the tag is empty when the item has none: it is
--   popped, but not recorded.
local lists, index, messages = #KEYS - 2, KEYS[#KEYS - 1], KEYS[#KEYS]
local room, now = tonumber(ARGV[1]), ARGV[2]

local function record(item)
  local whole, message = pcall(cjson.decode, item)
  local properties = whole and type(message) == 'table' and message.properties
  local info = type(properties) == 'table' and properties.delivery_info
  if type(info) ~= 'table' or type(properties.delivery_tag) ~= 'string' or type(info.exchange) ~= 'string'
    or type(info.routing_key) ~= 'string' then
    return ''
  end
  local parts = { item, cjson.encode(info.exchange), cjson.encode(info.routing_key) }
  redis.call('ZADD', index, now, properties.delivery_tag)
  redis.call('HSET', messages, properties.delivery_tag, '[' .. table.concat(parts, ',') .. ']')
  return properties.delivery_tag
end

local taken = {}
for list = 1, lists do
  local items = #taken < room and redis.call('RPOP', KEYS[list], room - #taken)
  for _, item in ipairs(items or {}) do
    taken[#taken + 1] = { KEYS[list], item, record(item) }
  end
end
return taken
