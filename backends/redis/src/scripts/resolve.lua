-- In a cluster: ends a record that an index lists, if it is the principal's by the login with this
-- ticket. If it is not, that login may be under way, and finds a mark under its ticket: to start
-- 'again', or that it has 'ended' as soon as it is made. The mark is a field beside the record's own,
-- or all there is where no record is yet, and changes nothing: the record of another is left alone.
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
redis.call('DEL', KEYS[1])
publish(ended(id_of(KEYS[1]), reason))
return (is_live(record) and 'E' or 'g') .. told
