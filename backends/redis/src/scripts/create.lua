-- Stores a new record, unless its id is taken.
--
-- KEYS: the record; for a login outside of a cluster also the index of the principal, and the
-- records that the cap may have to end.

local asks, is_split, new = take('>BBI4c0')
local values = {}
for n = 1, take('>I4') do
  local key, value = take('>Bc0I4c0')
  values[2 * n - 1], values[2 * n] = 'v' .. key, value
end
local principal, authenticated, cap, refuses, epoch, ticket = take('>Hc0i8I4BBc0Bc0')
local is_login, has_index = principal ~= '', principal ~= '' and is_split == 0

local victims, is_full = {}, false
if has_index then
  local answer
  victims, answer, is_full = make_room(KEYS[2], id_of(KEYS[1]), principal, cap, refuses)
  if not victims then return answer end
end

local record = read_packed(new)
local there, is_corrupt = read(KEYS[1])
if is_corrupt then return 'e' end
if there and is_live(there) then
  if string.sub(there.secret, 1, 36) == string.sub(record.secret, 1, 36) then
    return 'u' .. there.version
  end
  return 'e'
end
-- An expired record is kept until its end was reported.
if there and KEEPS then return 'e' end
if asks == 1 then return 'f' .. text('') .. text('') end
local mark = is_login and is_split == 1 and redis.call('HGET', KEYS[1], 'x' .. ticket)
if mark == 'again' then return 'A' end
if has_index and is_below_floor(KEYS[2], epoch) then return 'F' end
if is_full then return 'R' end

local made = {}
if mark == 'ended' then
  made = {id_of(KEYS[1])}
  if KEEPS then leave_remains(KEYS[1], record, principal) end
else
  if there then redis.call('DEL', KEYS[1]) end
  values[#values + 1], values[#values + 2] = '.', new
  call_with('HSET', KEYS[1], values)
  keep_for(KEYS[1], record)
  if KEEPS then
    expect_end(KEYS[1], record)
    if QUEUE then drop_unclaimed(QUEUE) end
  end
end
local events, behind = '', {}
if has_index then
  for n, key in ipairs(victims) do
    made[n] = id_of(key)
    end_at_cap(key, principal)
    unlist(KEYS[2], made[n])
    events = events .. ended(made[n], 'c')
  end
  list_entry(KEYS[2], id_of(KEYS[1]), authenticated, deadline(record))
  keep(KEYS[2], ttl(record.absolute))
  behind = stale(KEYS[2], 8)
end
publish(events)
return 'a' .. told .. record.version .. struct.pack('>H', 0) .. packed_list(made) .. text('') .. text('')
  .. packed_list(behind)
