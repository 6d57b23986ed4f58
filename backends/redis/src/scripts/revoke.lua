-- Raises the floor of a principal, and ends their sessions, all or all but one.
--
-- KEYS: the index.

local space, now, principal, except = take(), take(), take(), take()
local epoch, floor_kept = take(), take()

raise_floor(KEYS[1], epoch, floor_kept)
local ended = 0
for _, session in ipairs(theirs(KEYS[1], space, principal, now)) do
  if session.id ~= except then
    finish(space, session.id)
    redis.call('HDEL', KEYS[1], session.id)
    ended = ended + 1
  end
end
return ended
