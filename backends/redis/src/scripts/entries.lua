-- In a cluster: raises the floor of a principal, and tells what the index lists, in one step.
--
-- KEYS: the index.

local epoch, floor_kept = take(), take()

raise_floor(KEYS[1], epoch, floor_kept)
return redis.call('HGETALL', KEYS[1])
