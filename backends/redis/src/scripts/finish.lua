-- In a cluster: ends a record that an index lists, if it is the principal's. If it is not, its login
-- may be under way, and finds a mark: to start 'again', or that it has 'ended' as soon as it is made.
-- A stranger's record is left alone.
--
-- KEYS: the record and the mark of the login.

local space, id, now, principal, mark, mark_kept = take(), take(), take(), take(), take(), take()

local record = read(KEYS[1])
if not record or record.principal ~= principal then
  redis.call('SET', KEYS[2], mark, 'PX', mark_kept)
  return 'marked'
end
redis.call('DEL', KEYS[1])
redis.call('PUBLISH', space .. ':c', 'e' .. id)
return is_live(record, now) and 'ended' or 'gone'
