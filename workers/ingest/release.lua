-- Give the right to drain back at once, if it is still ours.
-- Promises: never takes it from another owner. Answers 1 if it was ours, else 0.
-- KEYS[1]  the lease   ARGV[1]  owner
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
