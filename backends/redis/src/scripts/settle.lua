-- Decides about claimed entries whose session has not ended, or has left nothing. Each gets a time
-- at which a node looks again, or is removed. An entry that is not under this claim any more is
-- left alone.
--
-- KEYS: the queue.

local claimed = take('>i8')

for _ = 1, take('>I4') do
  local id, time = take('>c32i8')
  if tonumber(redis.call('ZSCORE', KEYS[1], id) or 0) == -claimed then
    if time == NONE then
      redis.call('ZREM', KEYS[1], id)
    else
      enqueue(KEYS[1], id, math.min(time, now + LOOKED_AT))
    end
  end
end
return 'l'
