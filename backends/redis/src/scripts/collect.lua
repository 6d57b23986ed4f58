-- Removes an expired record.
--
-- KEYS: the record.

local record = read(KEYS[1])
if not record or is_live(record) then return 'g' .. told .. text('') .. text('') end
redis.call('DEL', KEYS[1])
publish(ended(id_of(KEYS[1]), 'x'))
return 'E' .. told .. text(record.principal) .. text(record.ticket)
