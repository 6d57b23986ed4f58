-- What every script knows of records. A record is one hash: the field '.' packs what is its own, and a
-- value is kept under 'v' and its key. See codec.rs for the form, which read_packed() takes apart.
--
-- Times are milliseconds, which Lua's doubles hold exactly. A version, a sign-in and a fence are 8
-- bytes each and stay so; a counter is a decimal and stays so.

local args, at = ARGV[1], 1

-- The next arguments, of this form.
local function take(form)
  local taken = {struct.unpack(form, args, at)}
  at = table.remove(taken)
  return unpack(taken)
end

-- The arguments that every script begins with: the time, and what its message to the feed begins with.
local now, feed = take('>i8c16')

-- The id in the name of a record.
local function id_of(key) return string.sub(key, -33, -2) end

-- Whether anything was published to a listener, for the answer.
local told = '0'

-- Tells the feed. That it may not be told is no reason to stop half-way; listeners miss a number then.
local function publish(events)
  if events == '' then return end
  local channel = string.match(KEYS[1], '^(.-):[rp]:{') .. ':f'
  if redis.pcall('PUBLISH', channel, feed .. events) ~= 0 then told = '1' end
end

local function ended(id, reason) return 'e' .. id .. reason end

-- Text of a decimal as 8 bytes.
local function eight(text)
  local bytes = {0, 0, 0, 0, 0, 0, 0, 0}
  for digit in string.gmatch(text, '%d') do
    local carry = tonumber(digit)
    for n = 8, 1, -1 do
      carry = bytes[n] * 10 + carry
      bytes[n] = carry % 256
      carry = math.floor(carry / 256)
    end
  end
  return string.char(unpack(bytes))
end

-- The 8 bytes after these.
local function successor(bytes)
  for n = 8, 1, -1 do
    local byte = string.byte(bytes, n)
    if byte < 255 then
      return string.sub(bytes, 1, n - 1) .. string.char(byte + 1) .. string.rep('\0', 8 - n)
    end
  end
  return bytes
end

local FORM = '>Hc8i8i8i8i8c8c8I4I4Bc0Bc0Hc0Bc0Bc0'

local function read_packed(packed)
  local is_sound, format, version, idle, absolute, created, authenticated, sign_in, fence, keys,
    bytes, secret, replaced, principal, ticket, owner, rest = pcall(struct.unpack, FORM, packed)
  if not is_sound or #secret < 36 then return nil end
  return {
    format = format, version = version, idle = idle, absolute = absolute, created = created,
    authenticated = authenticated, sign_in = sign_in, fence = fence, keys = keys, bytes = bytes,
    secret = secret, replaced = replaced, principal = principal, ticket = ticket, owner = owner,
    facts = string.sub(packed, rest),
  }
end

local function packed(record)
  return struct.pack(FORM, record.format, record.version, record.idle, record.absolute,
    record.created, record.authenticated, record.sign_in, record.fence, record.keys, record.bytes,
    #record.secret, record.secret, #record.replaced, record.replaced, #record.principal,
    record.principal, #record.ticket, record.ticket, #record.owner, record.owner) .. record.facts
end

-- The fields of a record of format 1, by what they became.
local FORMAT_1 = {'s', 'n', 'i', 'a', 'k', 'z', 'c', 'r', 't', 'u', 'w', 'o', 'f'}

local function read_format_1(key)
  local s, n, i, a, k, z, c, r, t, u, w, o, f = unpack(redis.call('HMGET', key, unpack(FORMAT_1)))
  for _, number in ipairs({n or 'x', i or 'x', a or 'x', k or 'x', z or 'x', c or 'x', t or '0', f or '0'}) do
    if not string.find(number, '^%-?%d+$') then return nil end
  end
  if not s or #s ~= 36 then return nil end
  local replaced = ''
  if r then replaced = struct.pack('>i8', tonumber(string.sub(r, 37))) .. string.sub(r, 1, 36) end
  return {
    format = 1, version = eight(n), idle = tonumber(i), absolute = tonumber(a),
    created = tonumber(c), authenticated = t and tonumber(t) or NONE, sign_in = eight('0'),
    fence = eight(f or '0'), keys = tonumber(k), bytes = tonumber(z), secret = s,
    replaced = replaced, principal = u or '', ticket = w or '', owner = o or '', facts = '',
  }
end

-- Whether nothing is kept under a key but marks for logins under way; see resolve.lua.
local function holds_marks_only(key)
  for _, field in ipairs(redis.call('HKEYS', key)) do
    if string.sub(field, 1, 1) ~= 'x' then return false end
  end
  return true
end

-- What several fields of a hash hold, beside the record's own; Lua passes on a few thousand at a time.
local function fields_of(key, names)
  local found = {}
  for n = 1, #names, 1000 do
    local some = redis.pcall('HMGET', key, unpack(names, n, math.min(n + 999, #names)))
    if some.err then return nil, some end
    for m, value in ipairs(some) do found[n + m - 1] = value end
  end
  return found
end

-- What is kept under a key, nil if nothing is. The second result says that it is something else than a
-- record, the third is what the fields of these names hold, of which '.' is the first.
local function read(key, names)
  local found, failure = fields_of(key, names or {'.'})
  if failure then
    if string.find(failure.err, 'WRONGTYPE', 1, true) then return nil, true end
    error(failure)
  end
  local record
  if found[1] then
    record = read_packed(found[1])
  elseif holds_marks_only(key) then
    return nil
  else
    record = read_format_1(key)
  end
  if not record then return nil, true end
  return record, false, found
end

-- How far a session's own idle life lets its deadline move, if its facts name one; see facts.rs of the
-- core, whose forms 1 to 15 begin alike.
local function latest_idle(record)
  local form = string.byte(record.facts)
  if #record.facts < 18 or form < 1 or form > 15 then return math.huge end
  local idle = struct.unpack('>i8', record.facts, 3)
  return idle > 0 and now + idle or math.huge
end

local function deadline(record) return math.min(record.idle, record.absolute) end

local function is_live(record) return now < deadline(record) end

-- Whether hashes show the secret of another one; nil if none of them was made under its key.
local function judge(hash, proofs)
  local compared, key, is_comparable = string.sub(hash, 1, 36), string.sub(hash, 1, 4), nil
  for n = 1, #proofs, 36 do
    local proof = string.sub(proofs, n, n + 35)
    if proof == compared then return true end
    if string.sub(proof, 1, 4) == key then is_comparable = false end
  end
  return is_comparable
end

-- What a proof is worth: 'right', 'superseded', 'wrong', or 'unknown' with the hash that it cannot be
-- compared with; no proof is right. The hashes are of secrets with 256 random bits: how long a
-- comparison takes tells nothing that helps to find one, since who does not have the secret cannot
-- choose how its hash begins.
local function verify(record, proofs)
  if #proofs == 0 then return 'right' end
  local is_right = judge(record.secret, proofs)
  if is_right then return 'right' end
  if is_right == nil then return 'unknown', record.secret end
  if record.replaced == '' then return 'wrong' end
  if now >= struct.unpack('>i8', record.replaced) then return 'wrong' end
  local before = string.sub(record.replaced, 9)
  local was_right = judge(before, proofs)
  if was_right then return 'superseded' end
  if was_right == nil then return 'unknown', before end
  return 'wrong'
end

-- The answer about a hash under an unknown key: that key, without the digest.
local function unknown(hash) return 'k' .. string.sub(hash, 1, 4) .. string.sub(hash, 37) end

local function newer(record) return 'n' .. struct.pack('>H', record.format) end

-- The time to live: relative, so that the clocks of servers count for nothing, and with a margin: it
-- gives memory back and ends no session. A deadline is the application's.
local function ttl(time) return string.format('%.0f', math.max(time - now, 0) + MARGIN) end

local function keep(key, wanted)
  if redis.call('PTTL', key) < tonumber(wanted) then redis.call('PEXPIRE', key, wanted) end
end

local function keep_for(key, record) redis.call('PEXPIRE', key, ttl(deadline(record))) end

-- Whether a decimal of any length, without a sign, is less than another.
local function is_less(a, b)
  if #a ~= #b then return #a < #b end
  return a < b
end

-- Calls a command with many arguments; Lua passes on a few thousand at a time.
local function call_with(command, key, all)
  for n = 1, #all, 1000 do
    redis.call(command, key, unpack(all, n, math.min(n + 999, #all)))
  end
end

local function text(it) return struct.pack('>Hc0', #it, it) end

-- A list as an answer has it.
local function packed_list(list)
  local parts = {struct.pack('>I4', #list)}
  for n, item in ipairs(list) do parts[n + 1] = text(item) end
  return table.concat(parts)
end
