-- Raises the floor of a principal, and ends their sessions, all or all but one.
--
-- KEYS: the index and the floor.

local space, now, principal, except = take(), take(), take(), take()
local epoch, floor_kept = take(), take()

if epoch ~= '' then
  local floor = redis.call('GET', KEYS[2])
  if floor and is_less(epoch, floor) then epoch = floor end
  redis.call('SET', KEYS[2], epoch, 'PX', floor_kept)
end
local ended = 0
for _, session in ipairs(theirs(KEYS[1], space, principal, now)) do
  if session.id ~= except then
    finish(space, session.id)
    redis.call('HDEL', KEYS[1], session.id)
    ended = ended + 1
  end
end
return ended
