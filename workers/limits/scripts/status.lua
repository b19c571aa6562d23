-- status: how the limits of every model stand.
--
-- Promise: changes nothing.
-- Keys: the limits' hash tag.
-- Arguments: now ('' for TIME), the names of models to tell of, beside those of the configuration.
-- Reply: a JSON object for each model.
--@include clock.lua
--@include model.lua
--@include line.lua
local names, seen = {}, {}
local function add(name)
  if name ~= '*' and not seen[name] then
    seen[name] = true
    names[#names + 1] = name
  end
end
for i = 2, #ARGV do
  add(ARGV[i])
end
for name in pairs(config.models or {}) do
  add(name)
end
for _, name in ipairs(redis.call('SMEMBERS', tag .. 'models')) do
  add(name)
end
table.sort(names)

local function used(tat, unit)
  return unit and math.min(1, math.max(0, tat - us) / burst_us(unit)) or nil
end

-- Those in line by model: of the tenants in the ring and of those that rest, and those aside.
local function waiting_of(name)
  local keys = {}
  for _, class in ipairs({ 'interactive', 'background' }) do
    for _, tenant in ipairs(redis.call('ZRANGE', ring_of(name, class), 0, -1)) do
      keys['line:' .. name .. ':' .. class .. ':' .. tenant] = true
    end
    local prefix = name .. ':' .. class .. ':'
    for set, kind in pairs({ rest = 'line:', back = 'aside:' }) do
      for _, queue in ipairs(redis.call('ZRANGE', tag .. set, 0, -1)) do
        if string.sub(queue, 1, #prefix) == prefix or queue == name .. ':' .. class .. '/' then
          keys[kind .. queue] = true
        end
      end
    end
  end
  local waiting = 0
  for key in pairs(keys) do
    waiting = waiting + redis.call('ZCARD', tag .. key)
  end
  return waiting
end

local answers = {}
for _, name in ipairs(names) do
  local model = model_of(name)
  local wait = circuit_of(model)
  local in_flight, places = flight_of(name), places_of(model)
  answers[#answers + 1] = cjson.encode({
    model = name, rpm = model.rule.rpm, tpm = model.rule.tpm, concurrency = model.rule.concurrency,
    ceiling = model.factor, held_seconds = math.max(0, model.hold - ms) / 1000,
    circuit = model.open == 0 and 'closed' or (ms < model.open and 'open' or 'half_open'),
    circuit_seconds = wait / 1000000, in_flight = in_flight, waiting = waiting_of(name),
    tokens_per_call = model.tokens, calls_per_turn = model.calls, used_rpm = used(model.rtat, request_us(model)),
    used_tpm = used(model.ttat, token_us(model)),
    used_concurrency = places and in_flight / places or nil,
  })
end
return answers
