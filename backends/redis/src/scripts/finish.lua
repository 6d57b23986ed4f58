-- In a cluster: ends a record that an index lists, if it is the principal's by the login with this
-- ticket. If it is not, that login may be under way, and finds a mark under its ticket: to start
-- 'again', or that it has 'ended' as soon as it is made. The mark is a field beside the record's own,
-- or all there is where no record is yet, and nothing to anybody else: a stranger's record is left
-- alone.
--
-- KEYS: the record.

local space, id, now = take(), take(), take()
local principal, ticket, mark, mark_kept = take(), take(), take(), take()

local record, is_corrupt = read(KEYS[1])
if is_corrupt then return 'gone' end
if not record or record.principal ~= principal or record.ticket ~= ticket then
  redis.call('HSET', KEYS[1], 'x' .. ticket, mark)
  if not record then keep(KEYS[1], mark_kept) end
  return 'marked'
end
redis.call('DEL', KEYS[1])
redis.call('PUBLISH', space .. ':c', 'e' .. id)
return is_live(record, now) and 'ended' or 'gone'
