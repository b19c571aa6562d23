-- Included by what begins or ends the life of an event: the turns of a thread in order, for whoever follows it.

-- How many turns of a thread are remembered.
local TURNS = 100

-- Counts a turn in, for as long as it has not ended, and tells the followers of its thread. The message is at most once.
local function note_turn(tag, lane, id, acceptance)
  local turns = tag .. 'turns:' .. lane
  redis.call('ZADD', turns, acceptance, id)
  redis.call('ZREMRANGEBYRANK', turns, 0, -TURNS - 1)
  redis.call('PERSIST', turns)
  redis.call('PUBLISH', turns, '[0,[],null]')
end
