-- Included by append, and by what ends events.
-- Writes `frames`, then the end entry if there is one, as numbers `first`, `first + 1`, … of the event's stream, and
-- tells the open readers, and counts the frames. The message is at most once and the stream is the truth. Returns the next number.
local function write_frames(tag, id, acceptance, first, frames, ending)
  local stream = tag .. 'out:' .. id
  local number = first
  for _, frame in ipairs(frames) do
    redis.call('XADD', stream, acceptance .. '-' .. number, 'd', frame)
    number = number + 1
  end
  if ending then
    redis.call('XADD', stream, acceptance .. '-' .. number, 'e', ending)
    number = number + 1
  end
  if #frames > 0 then
    redis.call('HINCRBY', tag .. 'counts', 'frames', #frames)
  end
  -- cjson writes an empty table as {}, so the empty list is spelled out
  local texts = #frames > 0 and cjson.encode(frames) or '[]'
  redis.call('PUBLISH', tag .. 'frames:' .. id, '[' .. first .. ',' .. texts .. ',' .. (ending or 'null') .. ']')
  return number
end
