-- Enqueues a record for a time at which it may have ended, unless it is enqueued for earlier.
--
-- KEYS: the queue.

local id, time = take('>c32i8')

enqueue_earlier(KEYS[1], id, math.min(time, now + LOOKED_AT))
drop_unclaimed(KEYS[1])
return 'l'
