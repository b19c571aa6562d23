-- again: a further call to the model in the same run.
--
-- Promise: it is charged now, whatever the line: a turn that has begun ends sooner than one that has not. Says how long
-- the caller is to wait until its debt is paid.
-- Keys: the limits' hash tag.
-- Arguments: now ('' for TIME), id, token.
-- Reply: ms to wait.
--@include clock.lua
--@include line.lua
local key = tag .. 'res:' .. ARGV[2]
local held = redis.call('HMGET', key, 'token', 'model', 'text')
if held[1] ~= ARGV[3] then
  return 0
end
local model = model_of(held[2])
local tokens = math.max(tonumber(held[3]), math.ceil(model.tokens))
local requests, per_token = unit_us(model.rule.rpm, model.factor), unit_us(model.rule.tpm, model.factor)
local wait = math.max(wait_us(model.rtat, requests, 1), wait_us(model.ttat, per_token, tokens),
  (model.hold - ms) * 1000)
model.rtat, model.ttat = spent(model.rtat, requests, 1), spent(model.ttat, per_token, tokens)
redis.call('HINCRBY', key, 'requests', 1)
redis.call('HINCRBY', key, 'tokens', tokens)
save()
return math.max(0, math.ceil(wait / 1000))
