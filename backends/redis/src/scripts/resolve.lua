-- In a cluster, ends a listed record if it belongs to the principal through the login with this
-- ticket. If it does not, that login may be in progress. It then finds a mark under its ticket:
-- 'again' makes it start again, 'ended' makes it end its session. The mark is a separate field, or
-- the only one if there is no record yet. The record of another principal is not changed.
--
-- KEYS: the record.

local principal, ticket, mark, mark_kept, reason = take('>Hc0Bc0Bc0i8c1')

local record, is_corrupt = read(KEYS[1])
if is_corrupt then return 'g' .. told end
if not record or record.principal ~= principal or record.ticket ~= ticket then
  redis.call('HSET', KEYS[1], 'x' .. ticket, mark)
  if not record then keep(KEYS[1], mark_kept) end
  return 'm' .. told
end
-- The end of an expired record is still to be reported.
if KEEPS and not is_live(record) then return 'g' .. told end
if reason == 'c' then end_at_cap(KEYS[1], principal) else redis.call('DEL', KEYS[1]) end
publish(ended(id_of(KEYS[1]), reason))
return (is_live(record) and 'E' or 'g') .. told
