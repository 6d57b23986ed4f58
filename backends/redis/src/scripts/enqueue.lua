-- Enqueues a record for a time at which it may have ended, unless it is enqueued for earlier. One that
-- has ended is due now. An entry that is claimed stays claimed.
--
-- KEYS: the queue.

local id, time, has_ended = take('>c32i8B')

if has_ended == 0 then
  enqueue_earlier(KEYS[1], id, math.min(time, now + LOOKED_AT))
elseif tonumber(redis.call('ZSCORE', KEYS[1], id) or 0) >= 0 then
  enqueue(KEYS[1], id, now)
end
drop_unclaimed(KEYS[1])
return 'l'
