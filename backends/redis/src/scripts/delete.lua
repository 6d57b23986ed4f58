-- Ends a record, subject to a proof and a sign-in if the caller requires them.
--
-- KEYS: the record; outside of a cluster also the index of its principal, if that is known.

local proofs, sign_in, reason, principal = take('>Hc0Bc0c1Hc0')

local record, is_corrupt = read(KEYS[1])
local id = id_of(KEYS[1])
if is_corrupt then
  -- A proof cannot be verified against an unreadable record.
  if #proofs > 0 then return 'x' end
  redis.call('DEL', KEYS[1])
  publish(ended(id, reason))
  return 'g' .. told .. text('') .. text('')
end
local verdict, hash = 'wrong', nil
if record then verdict, hash = verify(record, proofs) end
if verdict == 'wrong' then return 'g' .. told .. text('') .. text('') end
local was_live = is_live(record)
if was_live then
  if verdict == 'unknown' then return unknown(hash) end
  if verdict == 'superseded' or sign_in ~= '' and sign_in ~= record.sign_in then return 's' end
elseif KEEPS then
  -- Its end is still to be reported.
  return 'g' .. told .. text('') .. text('')
end
redis.call('DEL', KEYS[1])
local left = record.principal
if KEYS[2] and left == principal and size_of(KEYS[2]) then
  unlist(KEYS[2], id)
  left = ''
end
publish(ended(id, was_live and reason or 'x'))
return (was_live and 'E' or 'g') .. told .. text(left) .. text(record.ticket)
