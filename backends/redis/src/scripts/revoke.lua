-- Ends listed sessions of a principal.
--
-- KEYS: the index; the records.

local principal, reason = take('>Hc0c1')

if not size_of(KEYS[1]) then return 'C' end
local count, events = 0, {}
for n = 2, #KEYS do
  local id = id_of(KEYS[n])
  if look_at(KEYS[1], KEYS[n], principal) then
    redis.call('DEL', KEYS[n])
    unlist(KEYS[1], id)
    count = count + 1
    events[count] = ended(id, reason)
  end
end
publish(table.concat(events))
return 'l' .. told .. struct.pack('>I4', count)
