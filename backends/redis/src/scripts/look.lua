-- Answers the listed sessions of a principal, and removes entries whose session has ended or has
-- another principal.
--
-- KEYS: the index; the records.

local principal = take('>Hc0')

if not size_of(KEYS[1]) then return 'C' end
local found = {'l'}
for n = 2, #KEYS do
  local record = look_at(KEYS[1], KEYS[n], principal)
  if record then
    found[#found + 1] = id_of(KEYS[n])
      .. struct.pack('>i8i8i8i8', record.created, record.authenticated, deadline(record), record.idle)
      .. text(record.facts)
  end
end
return table.concat(found)
