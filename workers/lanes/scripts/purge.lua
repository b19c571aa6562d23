-- purge: forgets a dead letter for good. The event's own record stays until its retention is over.
--
-- Promise: forgetting it again changes nothing.
-- Keys: the shard's hash tag.
-- Arguments: id.
-- Reply: 1, or 0 when there was none.
redis.call('ZREM', KEYS[1] .. 'dead', ARGV[1])
return redis.call('DEL', KEYS[1] .. 'dead:' .. ARGV[1])
