-- prune: takes the ids of sessions that are gone out of the index. Redis forgets the sessions themselves.
--
-- Promise: an id whose session is there stays.
-- Keys: the shard's hash tag.
-- Arguments: id to go on after ('' for the beginning), how many ids are looked at.
-- Reply: id to go on after, or '' at the end.
local tag, limit = KEYS[1], tonumber(ARGV[2])
local least = ARGV[1] == '' and '-' or '(' .. ARGV[1]
local ids = redis.call('ZRANGEBYLEX', tag .. 'sessions', least, '+', 'LIMIT', 0, limit)
for _, session in ipairs(ids) do
  if redis.call('EXISTS', tag .. session) == 0 then
    redis.call('ZREM', tag .. 'sessions', session)
  end
end
return #ids == limit and ids[limit] or ''
