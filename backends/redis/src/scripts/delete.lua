-- Ends a record, for the holder of its secret if a proof is asked for.
--
-- KEYS: the record.

local space, id, now, is_cluster, proofs = take(), take(), take(), take() == '1', take_all()

local record, is_corrupt = read(KEYS[1])
if is_corrupt then
  -- Nothing shows the right to what cannot be read.
  if #proofs > 0 then return {'corrupt'} end
  redis.call('DEL', KEYS[1])
  redis.call('PUBLISH', space .. ':c', 'e' .. id)
  return {'gone'}
end
if not record or verify(record, proofs, now) ~= 'right' then return {'gone'} end
redis.call('DEL', KEYS[1])
redis.call('PUBLISH', space .. ':c', 'e' .. id)
if record.principal and not is_cluster then unlist(space, record.principal, id) end
local said = is_live(record, now) and 'ended' or 'gone'
return {said, record.principal or '', record.ticket or ''}
