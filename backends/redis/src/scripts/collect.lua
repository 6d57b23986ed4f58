-- Gives back what an expired record holds.
--
-- KEYS: the record.

local space, id, now, is_cluster = take(), take(), take(), take() == '1'

local record = read(KEYS[1])
if not record or is_live(record, now) then return 0 end
redis.call('DEL', KEYS[1])
if record.principal and not is_cluster then unlist(space, record.principal, id) end
redis.call('PUBLISH', space .. ':c', 'e' .. id)
return 1
