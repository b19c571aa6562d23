-- again: a further call to the model in the same run.
--
-- Promise: it is charged at once, whatever the line: a turn that has begun ends sooner than one that has not. Says
-- how long the caller is to wait until its debt is paid. If that is longer than it may wait, the call is not charged
-- and not to be made. The same number again is charged nothing and told what is left of the wait.
-- Keys: the limits' hash tag.
-- Arguments: now ('' for TIME), id, token, number of the call (2: the second of the run), longest wait in ms.
-- Reply: ms to wait.
--@include clock.lua
--@include model.lua
local key = tag .. 'res:' .. ARGV[2]
local number, longest = tonumber(ARGV[4]), tonumber(ARGV[5])
local held = redis.call('HMGET', key, 'token', 'model', 'text', 'calls', 'ready')
if held[1] ~= ARGV[3] then
  return 0
end
if tonumber(held[4]) >= number then
  return math.max(0, tonumber(held[5] or 0) - ms)
end
local model = model_of(held[2])
local tokens = estimate(model, held[3])
local wait = math.max(wait_us(model.rtat, request_us(model), 1), wait_us(model.ttat, token_us(model), tokens))
wait = math.ceil(math.max(wait / 1000, model.hold - ms))
if wait > longest then
  return wait
end
charge(model, 1, tokens)
redis.call('HINCRBY', key, 'tokens', tokens)
redis.call('HSET', key, 'calls', number, 'ready', ms + wait)
save()
return wait
