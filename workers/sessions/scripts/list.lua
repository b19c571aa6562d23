-- list: the sessions of a range of ids that live.
--
-- Promise: changes nothing.
-- Keys: the shard's hash tag.
-- Arguments: now ('' for TIME), idle time in ms, least and greatest id as ZRANGEBYLEX takes them, how many ids are
--   looked at.
-- Reply: {id to go on after, or '' at the end; of each session: id, tenant, user, made, last refreshed, end in ms}.
--@include clock.lua
--@include live.lua
local tag, limit = KEYS[1], tonumber(ARGV[5])
local now_ms = math.floor(now_us(ARGV[1]) / 1000)
local ids = redis.call('ZRANGEBYLEX', tag .. 'sessions', ARGV[3], ARGV[4], 'LIMIT', 0, limit)
local reply = { #ids == limit and ids[limit] or '' }
for _, session in ipairs(ids) do
  local found = live(tag, session, now_ms, tonumber(ARGV[2]))
  if found then
    reply[#reply + 1] = { session, found.tenant, found.user, found.made, found.seen, found.ends }
  end
end
return reply
