-- Claims entries that are due, and those whose claim has lapsed, until a given time. Answers their
-- ids, and the time at which each was due.
--
-- KEYS: the queue.

local most, claimed = take('>I4i8')

local due = redis.call('ZRANGEBYSCORE', KEYS[1], -now, now, 'WITHSCORES', 'LIMIT', 0, most)
local parts = {struct.pack('>I4', #due / 2)}
for n = 1, #due, 2 do
  redis.call('ZADD', KEYS[1], -claimed, due[n])
  parts[#parts + 1] = due[n] .. struct.pack('>i8', math.abs(tonumber(due[n + 1])))
end
return 'l' .. table.concat(parts)
