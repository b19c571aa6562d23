-- correct: what the provider says remains.
--
-- Promise: our buckets never hold more than that; they are not filled by it.
-- Keys: the limits' hash tag.
-- Arguments: now ('' for TIME), model, remaining requests ('' for unknown), remaining tokens ('' for unknown).
-- Reply: 'ok'.
--@include clock.lua
--@include model.lua
local model = model_of(ARGV[2])
local function lowered(tat, unit, remaining)
  if not unit or remaining == '' then
    return tat
  end
  return math.max(tat, us + burst_us(unit) - tonumber(remaining) * unit)
end
model.rtat = lowered(model.rtat, request_us(model), ARGV[3])
model.ttat = lowered(model.ttat, token_us(model), ARGV[4])
save()
return 'ok'
