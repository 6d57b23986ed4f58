-- Converts an index of format 1 to a sorted set. Format 1 is a hash from entries to the time of the
-- authentication. In a cluster, the value also has the absolute deadline, and '!' if another login
-- displaced the entry.
--
-- KEYS: the index.

if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then return 'l' end
local listed, left = redis.call('HGETALL', KEYS[1]), redis.call('PTTL', KEYS[1])
redis.call('DEL', KEYS[1])
for n = 1, #listed, 2 do
  local entry, authenticated, is_taken = listed[n], string.match(listed[n + 1], '^(%-?%d+):?%-?%d*(!?)$')
  if entry == 'floor' then
    redis.call('ZADD', KEYS[1], 3 * PARTS, 'F' .. listed[n + 1])
  elseif is_taken == '!' then
    redis.call('ZADD', KEYS[1], 2 * PARTS, 'V' .. entry)
  elseif authenticated then
    list_entry(KEYS[1], entry, tonumber(authenticated), 0)
  end
end
if left > 0 then redis.call('PEXPIRE', KEYS[1], left) end
return 'l'
