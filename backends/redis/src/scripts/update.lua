-- Applies a patch to a live record in one step. It checks liveness, proof, sign-in, expectations,
-- fence and limits, in this order, and completes all checks before the first write.
--
-- KEYS: the record; for a login outside of a cluster also the index of the principal, and the
-- records that the cap may have to end.

local asks, is_split, clears, max_keys, max_bytes, sign_in, fence, idle, proofs, rehash_from,
  rehash_to, owner, rotation = take('>BBBI4I4Bc0Bc0i8Hc0Hc0Bc0Bc0Bc0')
local login = {principal = ''}
local is_authentication = rotation ~= '' and take('>B') == 1
if is_authentication then
  login.at, login.absolute, login.has_facts, login.facts, login.format, login.principal, login.cap,
    login.refuses, login.epoch, login.ticket = take('>i8i8BHc0HHc0I4BBc0Bc0')
end
local is_login = login.principal ~= ''
local has_index = is_login and is_split == 0

local names, expected, ops = {'.'}, {}, {}
for n = 1, take('>I4') do
  local key, is_there, value = take('>Bc0BI4c0')
  expected[n] = is_there == 1 and value
  names[#names + 1] = 'v' .. key
end
for n = 1, take('>I4') do
  local kind, key, value = take('>BBc0I4c0')
  ops[n] = {kind = string.char(kind), key = key, field = 'v' .. key, value = value}
  names[#names + 1] = ops[n].field
end
if is_login and is_split == 1 then names[#names + 1] = 'x' .. login.ticket end

local victims, is_full = {}, false
if has_index then
  local answer
  victims, answer, is_full =
    make_room(KEYS[2], id_of(KEYS[1]), login.principal, login.cap, login.refuses)
  if not victims then return answer end
end

local record, is_corrupt, found = read(KEYS[1], names)
if is_corrupt then return 'x' end
if not record or not is_live(record) then return 'g' end
if record.format > KNOWN then return newer(record) end
if rotation ~= '' and string.sub(rotation, 1, 36) == string.sub(record.secret, 1, 36) then
  return 'u' .. record.version
end
local verdict, hash = verify(record, proofs)
if verdict == 'unknown' then return unknown(hash) end
if verdict == 'wrong' then return 'g' end
if verdict == 'superseded' then return 's' end
if sign_in ~= '' and sign_in ~= record.sign_in then return 's' end
for n, value in ipairs(expected) do
  if found[n + 1] ~= value then return 'c' end
end
if fence ~= '' and fence ~= record.fence then return 'c' end
if asks == 1 then return 'f' .. text(record.principal) .. text(record.ticket) end

-- Splits a decimal into its sign and two halves of nine digits. Returns nil unless it is a 64-bit
-- integer.
local LEAST, MOST = '9223372036854775808', '9223372036854775807'
local function halves(decimal)
  local sign, digits = string.match(decimal, '^[ \t\n\r]*(%-?)(%d+)[ \t\n\r]*$')
  local is_json = sign and (string.byte(digits) ~= 48 or digits == '0' and sign == '')
  if not is_json or is_less(sign == '-' and LEAST or MOST, digits) then return nil end
  sign = sign == '-' and -1 or 1
  return sign * (tonumber(string.sub(digits, 1, -10)) or 0), sign * tonumber(string.sub(digits, -9))
end

-- Returns the exact sum of two decimals, or nil and the reason why there is none.
local function sum(one, other)
  local high, low = halves(one)
  if not high then return nil, 'i' end
  local other_high, other_low = halves(other)
  high, low = high + other_high, low + other_low
  local carry = math.floor(low / 1e9)
  high, low = high + carry, low - carry * 1e9
  if high < 0 and low > 0 then high, low = high + 1, low - 1e9 end
  local digits = string.format('%.0f%09.0f', math.abs(high), math.abs(low))
  digits = string.gsub(digits, '^0+(%d)', '%1')
  local is_negative = high < 0 or low < 0
  if is_less(is_negative and LEAST or MOST, digits) then return nil, 'o' end
  return (is_negative and '-' or '') .. digits
end

-- Returns the length that the limits count for a value; see sealed.rs of the core.
local function counted_len(value)
  local sealed = string.match(value, '^"%$sealed1:[^:]+:([%w_-]*)"$')
  local len = sealed and math.floor(#sealed * 3 / 4) - 40 or -1
  return len < 0 and #value or len
end

-- Returns the sizes that the limit of a record counts, before and after the patch.
local function counted(key, removed, set)
  local before, changes = 0, 0
  local sizes, names, name = {}, redis.call('HGETALL', key), nil
  for n, text in ipairs(names) do
    if n % 2 == 1 then
      name = text
    elseif string.sub(name, 1, 1) == 'v' then
      sizes[name] = #name - 1 + counted_len(text)
      before = before + sizes[name]
    end
  end
  for _, field in ipairs(removed) do changes = changes - (sizes[field] or 0) end
  for n = 1, #set, 2 do
    changes = changes + #set[n] - 1 + counted_len(set[n + 1]) - (sizes[set[n]] or 0)
  end
  return before, before + changes
end

-- Finds the values that the patch removes without naming them: all of them, or the pre-auth ones.
local removed, keys, bytes = {}, record.keys, record.bytes
local puts = {}
for _, op in ipairs(ops) do puts[op.field] = op.kind ~= 'r' end
if clears == 1 or is_login then
  for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
    local goes = clears == 1 and string.sub(field, 1, 1) == 'v' or string.sub(field, 1, 2) == 'v~'
    if goes and puts[field] == nil then
      keys, bytes = keys - 1, bytes - #field + 1 - redis.call('HSTRLEN', KEYS[1], field)
      removed[#removed + 1] = field
    end
  end
end

local set, counters = {}, {}
for n, op in ipairs(ops) do
  local before = found[1 + #expected + n]
  if before then keys, bytes = keys - 1, bytes - #op.key - #before end
  if clears == 1 or is_login and string.sub(op.key, 1, 1) == '~' then before = false end
  if op.kind == 'a' then
    local total, failure = sum(before or '0', op.value)
    if not total then return failure .. op.key end
    counters[#counters + 1] = struct.pack('>Bc0Bc0', #op.key, op.key, #total, total)
    op.value = total
  end
  if op.kind == 'r' then
    removed[#removed + 1] = op.field
  else
    keys, bytes = keys + 1, bytes + #op.key + #op.value
    set[#set + 1], set[#set + 2] = op.field, op.value
  end
end
-- A record over a limit that was lowered may stay as it is, or shrink.
if keys > math.max(max_keys, record.keys) then return 'K' .. struct.pack('>I4I4', keys, max_keys) end
if bytes > max_bytes then
  local before, after = counted(KEYS[1], removed, set)
  if after > math.max(max_bytes, before) then return 'B' .. struct.pack('>I4I4', after, max_bytes) end
end

local mark = is_login and is_split == 1 and found[#names]
if mark == 'again' then return 'A' end
if has_index and is_below_floor(KEYS[2], login.epoch) then return 'F' end
if is_full then return 'R' end
local id = id_of(KEYS[1])
if mark == 'ended' then
  end_at_cap(KEYS[1], login.principal)
  publish(ended(id, 'c'))
  return 'a' .. told .. record.version .. struct.pack('>H', 0) .. packed_list({id}) .. text(record.principal)
    .. text(record.ticket) .. packed_list({})
end

local format_before = record.format
record.format = math.max(record.format, 2)
record.keys, record.bytes = keys, bytes
local left, left_ticket, begins = '', record.ticket, false
local is_rehashed = judge(record.secret, rehash_from)
if is_rehashed then record.secret = rehash_to end
if rotation ~= '' then
  record.replaced = struct.pack('>i8', now + REPLACED_KEPT) .. record.secret
  record.secret = rotation
elseif record.replaced ~= '' and now >= struct.unpack('>i8', record.replaced) then
  record.replaced = ''
end
if is_authentication then
  record.authenticated, record.absolute = login.at, login.absolute
  if login.has_facts == 1 then record.facts, record.format = login.facts, login.format end
  if is_login then
    begins = record.principal ~= login.principal
    left = (begins or is_split == 1) and record.principal or ''
    record.principal = login.principal
    record.ticket = login.ticket
    if begins then record.sign_in = successor(record.sign_in) end
  end
end
if owner ~= '' then record.owner, record.fence = owner, successor(record.fence) end
local latest = latest_idle(record)
if login.has_facts == 1 then record.idle = math.min(record.idle, latest) end
if idle ~= NONE then
  record.idle = math.min(math.max(record.idle, math.min(idle, latest)), record.absolute)
end
local changes = clears == 1 or #ops > 0 or rotation ~= '' or owner ~= '' or is_rehashed
if changes then record.version = successor(record.version) end

set[#set + 1], set[#set + 2] = '.', packed(record)
call_with('HSET', KEYS[1], set)
if format_before == 1 then
  for _, field in ipairs(FORMAT_1) do removed[#removed + 1] = field end
end
call_with('HDEL', KEYS[1], removed)
if idle ~= NONE or is_authentication then
  keep_for(KEYS[1], record)
  if KEEPS then expect_end(KEYS[1], record) end
end

local events, made, behind = '', {}, {}
if changes then events = (begins and 's' or 'p') .. id .. record.version end
if has_index then
  for n, key in ipairs(victims) do
    made[n] = id_of(key)
    end_at_cap(key, login.principal)
    unlist(KEYS[2], made[n])
    events = events .. ended(made[n], 'c')
  end
  list_entry(KEYS[2], id, login.at, deadline(record))
  keep(KEYS[2], ttl(record.absolute))
  behind = stale(KEYS[2], 8)
end
publish(events)
return 'a' .. told .. record.version .. struct.pack('>H', #counters) .. table.concat(counters)
  .. packed_list(made) .. text(left) .. text(left_ticket) .. packed_list(behind)
