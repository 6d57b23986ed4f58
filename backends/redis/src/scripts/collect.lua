-- Removes an expired record, or the remains of a session that the cap ended.
--
-- KEYS: the record.

local record, is_corrupt = read(KEYS[1])
if record and is_live(record) then return 'l' .. told .. text('') .. text('') end
if not record then
  if KEEPS and not is_corrupt then redis.call('HDEL', KEYS[1], REMAINS) end
  return 'g' .. told .. text('') .. text('')
end
redis.call('DEL', KEYS[1])
publish(ended(id_of(KEYS[1]), 'x'))
return 'E' .. told .. text(record.principal) .. text(record.ticket)
