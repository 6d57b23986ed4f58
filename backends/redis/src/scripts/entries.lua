-- Raises the minimum epoch of a principal and answers the entries of the index, in one step.
--
-- KEYS: the index.

local epoch, floor_kept = take('>Bc0i8')

if not size_of(KEYS[1]) then return 'C' end
raise_floor(KEYS[1], epoch, floor_kept)
local entries = redis.call('ZRANGEBYSCORE', KEYS[1], LISTED[1], LISTED[2])
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], 1.5 * PARTS, 2.5 * PARTS)) do
  entries[#entries + 1] = string.sub(member, 2)
end
return 'l' .. packed_list(entries)
