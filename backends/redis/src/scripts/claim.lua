-- Claims entries that are due, and those whose claim has lapsed, until a given time. Answers their
-- ids.
--
-- KEYS: the queue.

local most, claimed = take('>I4i8')

local due = redis.call('ZRANGEBYSCORE', KEYS[1], -now, now, 'LIMIT', 0, most)
for _, id in ipairs(due) do redis.call('ZADD', KEYS[1], -claimed, id) end
return 'l' .. packed_list(due)
