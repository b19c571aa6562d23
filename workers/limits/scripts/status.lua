-- status: how the limits of every model stand.
--
-- Promise: changes nothing.
-- Keys: the limits' hash tag.
-- Arguments: now ('' for TIME), the names of models to tell of, beside those of the configuration.
-- Reply: a JSON object for each model.
--@include clock.lua
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
  return unit and math.min(1, math.max(0, tat - us) / math.max(BURST_US, unit)) or nil
end
local answers = {}
for _, name in ipairs(names) do
  local model = model_of(name)
  local waiting = 0
  for _, class in ipairs({ 'interactive', 'background' }) do
    for _, tenant in ipairs(redis.call('ZRANGE', ring_of(name, class), 0, -1)) do
      waiting = waiting + redis.call('ZCARD', tag .. 'line:' .. name .. ':' .. class .. ':' .. tenant)
    end
  end
  local wait, probing = circuit_of(model)
  local in_flight, places = flight_of(name), places_of(model)
  answers[#answers + 1] = cjson.encode({
    model = name, rpm = model.rule.rpm, tpm = model.rule.tpm, concurrency = model.rule.concurrency,
    ceiling = model.factor, held_seconds = math.max(0, model.hold - ms) / 1000,
    circuit = model.open == 0 and 'closed' or (ms < model.open and 'open' or 'half_open'),
    circuit_seconds = wait / 1000000, in_flight = in_flight, waiting = waiting,
    tokens_per_event = model.tokens, used_rpm = used(model.rtat, unit_us(model.rule.rpm, model.factor)),
    used_tpm = used(model.ttat, unit_us(model.rule.tpm, model.factor)),
    used_concurrency = places and in_flight / places or nil,
  })
end
return answers
