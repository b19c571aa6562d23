-- append: adds frames to what the clients of an event see.
--
-- Promise: refused unless owner and epoch hold the lane (expiry alone refuses nothing), and once the event is to be
-- stopped. Frames that are there already are not written again, and count as success; a gap is refused.
-- Keys: the shard's hash tag.
-- Arguments: id, lane, owner, epoch, number of the first frame, the frames.
-- Reply: {'appended' or why not, next frame number}.
--@include frames.lua
local tag, id, lane, first = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[5])
local key = tag .. 'event:' .. id
local lease = redis.call('HMGET', tag .. 'lease:' .. lane, 'owner', 'epoch', 'event')
local event = redis.call('HMGET', key, 'acceptance', 'next', 'cancel', 'ended')
local number = tonumber(event[2] or 0)
if lease[1] ~= ARGV[3] or lease[2] ~= ARGV[4] or lease[3] ~= id then
  redis.call('HINCRBY', tag .. 'counts', 'fenced', 1)
  return { event[4] and 'ended' or 'stale', number }
end
if event[3] then
  return { 'cancelled', number }
end
if first > number then
  return { 'gap', number }
end
local frames = {}
for i = 6 + number - first, #ARGV do
  frames[#frames + 1] = ARGV[i]
end
if #frames > 0 then
  number = write_frames(tag, id, event[1], number, frames, nil)
  redis.call('HSET', key, 'next', number)
end
return { 'appended', number }
