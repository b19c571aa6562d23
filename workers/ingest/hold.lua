-- Take or renew the right to drain the ingress stream.
-- Promises: at most one owner at a time; the owner's call always renews; answers 1 to the owner, 0 to everybody else.
-- KEYS[1]  the lease, a string that holds its owner
-- ARGV[1]  owner   ARGV[2]  how long it holds, in milliseconds
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then
  return 1
end
return 0
