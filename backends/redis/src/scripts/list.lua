-- The live sessions of a principal.
--
-- KEYS: the index.

local space, now, principal = take(), take(), take()

local found = {}
for _, session in ipairs(theirs(KEYS[1], space, principal, now)) do
  local fields = redis.call('HMGET', space .. ':r:{' .. session.id .. '}', 'c', 't', 'i', 'a')
  found[#found + 1] = {session.id, unpack(fields)}
end
return found
