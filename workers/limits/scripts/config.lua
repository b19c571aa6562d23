-- config: sets the limits of the deployment.
--
-- Promise: `installed` limits, those of the settings, only where they differ from the last ones that were installed:
-- what was set at run time outlives a restart until the settings change. Whoever rests or stands aside for an old
-- limit is looked at again at once.
-- Keys: the limits' hash tag.
-- Arguments: now (unused), limits as JSON, 1 when they are those of the settings.
-- Reply: 1 when they are in force now that were not.
local tag = KEYS[1]
if ARGV[3] == '1' then
  if redis.call('GET', tag .. 'installed') == ARGV[2] then
    return 0
  end
  redis.call('SET', tag .. 'installed', ARGV[2])
end
redis.call('SET', tag .. 'config', ARGV[2])
for _, name in ipairs({ 'rest', 'back' }) do
  redis.call('ZUNIONSTORE', tag .. name, 1, tag .. name, 'WEIGHTS', 0)
end
return 1
