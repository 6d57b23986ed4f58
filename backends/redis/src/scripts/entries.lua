-- In a cluster: raises the floor of a principal, and tells what the index lists, in one step.
--
-- KEYS: the index and the floor.

local epoch, floor_kept = take(), take()

if epoch ~= '' then
  local floor = redis.call('GET', KEYS[2])
  if floor and is_less(epoch, floor) then epoch = floor end
  redis.call('SET', KEYS[2], epoch, 'PX', floor_kept)
end
return redis.call('HGETALL', KEYS[1])
