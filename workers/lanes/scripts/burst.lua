-- Included by accept: messages that come in a burst wait for a quiet moment together, and join the first of them.

-- The turns at the end of a lane that still wait for a message of `user` to join them: their burst, the ms up to which
-- they may be made to wait, the ms at which they are due, and their ids, last first. Nothing when there are none.
local function open_burst(tag, waiting, user)
  local ids, members, burst, latest, due = redis.call('LRANGE', waiting, 0, -1), {}, nil, nil, 0
  for i = #ids, 1, -1 do
    local turn, its_user, state, started, its_burst, its_latest, its_due = unpack(redis.call('HMGET',
      tag .. 'event:' .. ids[i], 'turn', 'user', 'state', 'started', 'burst', 'latest', 'due'))
    if turn == '1' then
      if its_user ~= user or state ~= 'queued' or started or not its_burst or its_burst ~= (burst or its_burst) then
        break
      end
      burst, latest, due = its_burst, tonumber(its_latest), math.max(due, tonumber(its_due))
      members[#members + 1] = ids[i]
    end
  end
  return burst, latest, due, members
end

-- Lets events wait until `due`. How long an event waited is counted from then on: nobody could have run it before.
local function wait_until(tag, ids, due)
  for _, id in ipairs(ids) do
    redis.call('HSET', tag .. 'event:' .. id, 'due', due, 'since', due)
  end
end
