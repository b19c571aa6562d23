-- append: adds frames to what the clients of an event see, and a completed step to its journal.
--
-- Promise: refused unless owner and epoch hold the lane (expiry alone refuses nothing), and once the event is to be
-- stopped. Frames that are there already are not written again, and count as success; a gap is refused. A step is kept
-- in the same instant as the frames before it, so that what is found in the journal was shown; the same step again takes
-- the place of the earlier one. One that would make the journal larger than its bound is not kept.
-- Keys: the shard's hash tag.
-- Arguments: id, lane, owner, epoch, number of the first frame, step ('' for none), its entry, bound of the journal in
--   bytes, the frames.
-- Reply: {'appended' or why not, next frame number, 1 when the journal is full}.
--@include fence.lua
--@include frames.lua
local tag, id, lane, first = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[5])
local key = tag .. 'event:' .. id
local lease = redis.call('HMGET', tag .. 'lease:' .. lane, 'owner', 'epoch', 'event')
local event = redis.call('HMGET', key, 'acceptance', 'next', 'cancel', 'ended', 'journaled')
local number = tonumber(event[2] or 0)
if lease[1] ~= ARGV[3] or lease[2] ~= ARGV[4] or lease[3] ~= id then
  count_refused(tag, ARGV[6] ~= '' and 'journal' or 'frames')
  return { event[4] and 'ended' or 'stale', number, 0 }
end
if event[3] then
  return { 'cancelled', number, 0 }
end
if first > number then
  return { 'gap', number, 0 }
end
local frames = {}
for i = 9 + number - first, #ARGV do
  frames[#frames + 1] = ARGV[i]
end
if #frames > 0 then
  number = write_frames(tag, id, event[1], number, frames, nil)
  redis.call('HSET', key, 'next', number)
end
local full = 0
if ARGV[6] ~= '' then
  local journal = tag .. 'journal:' .. id
  local grown = #ARGV[7] - redis.call('HSTRLEN', journal, ARGV[6])
  if tonumber(event[5] or 0) + grown > tonumber(ARGV[8]) then
    full = 1
  else
    redis.call('HSET', journal, ARGV[6], ARGV[7])
    redis.call('HINCRBY', key, 'journaled', grown)
  end
end
return { 'appended', number, full }
