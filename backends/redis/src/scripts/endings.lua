-- The part that scripts of a store share while it keeps endings.
--
-- The queue of endings is a sorted set of ids. A score is the time from which a node looks whether
-- that session has ended; a negative one is the time until which a node has claimed it. QUEUE is
-- its key, if the script has it.

-- The field in place of a record that the cap ended: the time, the reason and the principal.
-- Scripts that do not know it take it for a mark of a login.
local REMAINS = 'x!'

local function enqueue(queue, id, time)
  redis.call('ZADD', queue, time, id)
  keep(queue, ttl(time))
end

-- Enqueues a record for earlier than before. One that is claimed stays claimed.
local function enqueue_earlier(queue, id, time)
  redis.call('ZADD', queue, 'LT', time, id)
  keep(queue, ttl(time))
end

-- Enqueues a record for the time after its deadline.
local function expect_end(key, record)
  if QUEUE then enqueue(QUEUE, id_of(key), deadline(record) + SPARED) end
end

local function leave_remains(key, record, principal)
  redis.call('HSET', key, REMAINS, struct.pack('>i8c1', now, 'c') .. principal)
  keep_for(key, record)
  if QUEUE then enqueue_earlier(QUEUE, id_of(key), now) end
end

-- Drops a few entries that no node has claimed for a day. Their records are gone.
local function drop_unclaimed(queue)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', queue, 0, now - MARGIN, 'LIMIT', 0, 8)) do
    redis.call('ZREM', queue, id)
  end
end
