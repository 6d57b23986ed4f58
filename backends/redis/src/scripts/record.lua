-- The part that all scripts share. A record is one hash: the field '.' packs everything but the
-- values, and each value is a field of 'v' and its key. codec.rs documents the packed form, which
-- read_packed() parses.
--
-- Times are milliseconds, which Lua's doubles represent exactly. Versions, sign-ins and fences are
-- kept as strings of 8 bytes and counters as decimal strings, because doubles would round them.

local args, at = ARGV[1], 1

-- Take the next arguments.
local function take(form)
  local taken = {struct.unpack(form, args, at)}
  at = table.remove(taken)
  return unpack(taken)
end

-- The arguments that every script begins with: the time, and the stamp of its message to the feed.
local now, feed = take('>i8c16')

-- Returns the id in the name of a record.
local function id_of(key) return string.sub(key, -33, -2) end

-- True if a listener received a message, for the answer.
local told = '0'

-- Publishes a change. A failure must not stop the script halfway: listeners then notice a missing
-- number.
local function publish(events)
  if events == '' then return end
  local channel = string.match(KEYS[1], '^(.-):[rp]:{') .. ':f'
  if redis.pcall('PUBLISH', channel, feed .. events) ~= 0 then told = '1' end
end

local function ended(id, reason) return 'e' .. id .. reason end

-- Converts a decimal string to 8 bytes.
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

-- Increments a number of 8 bytes.
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

-- The fields of a record of format 1, in the order of their successors.
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

-- Returns true if a key only holds marks of logins in progress; see resolve.lua.
local function holds_marks_only(key)
  for _, field in ipairs(redis.call('HKEYS', key)) do
    if string.sub(field, 1, 1) ~= 'x' then return false end
  end
  return true
end

-- Reads several fields of a hash. Lua can only pass a few thousand arguments at a time.
local function fields_of(key, names)
  local found = {}
  for n = 1, #names, 1000 do
    local some = redis.pcall('HMGET', key, unpack(names, n, math.min(n + 999, #names)))
    if some.err then return nil, some end
    for m, value in ipairs(some) do found[n + m - 1] = value end
  end
  return found
end

-- Reads the record under a key, or nil if there is none. The second result is true if the key holds
-- something else. The third has the values of the requested fields, of which '.' is the first.
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

-- Returns how far the session's own idle lifetime lets its deadline move, if its facts contain one;
-- see facts.rs of the core, whose forms 1 to 15 share these bytes.
local function latest_idle(record)
  local form = string.byte(record.facts)
  if #record.facts < 18 or form < 1 or form > 15 then return math.huge end
  local idle = struct.unpack('>i8', record.facts, 3)
  return idle > 0 and now + idle or math.huge
end

local function deadline(record) return math.min(record.idle, record.absolute) end

local function is_live(record) return now < deadline(record) end

-- Returns whether one of the hashes matches, or nil if none was made under the same key.
local function judge(hash, proofs)
  local compared, key, is_comparable = string.sub(hash, 1, 36), string.sub(hash, 1, 4), nil
  for n = 1, #proofs, 36 do
    local proof = string.sub(proofs, n, n + 35)
    if proof == compared then return true end
    if string.sub(proof, 1, 4) == key then is_comparable = false end
  end
  return is_comparable
end

-- Judges a proof: 'right', 'superseded', 'wrong', or 'unknown' with the hash that it cannot be
-- compared with. A missing proof is right. The comparison need not be constant-time: secrets have
-- 256 random bits, and without the secret the first bytes of its hash cannot be chosen.
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

-- Answers with an unknown key: its id, without the digest.
local function unknown(hash) return 'k' .. string.sub(hash, 1, 4) .. string.sub(hash, 37) end

local function newer(record) return 'n' .. struct.pack('>H', record.format) end

-- Sets the time to live. It is relative, so that the server's clock does not matter, and has a
-- margin: it frees memory, but the application's clock ends sessions.
local function ttl(time) return string.format('%.0f', math.max(time - now, 0) + MARGIN) end

local function keep(key, wanted)
  if redis.call('PTTL', key) < tonumber(wanted) then redis.call('PEXPIRE', key, wanted) end
end

local function keep_for(key, record) redis.call('PEXPIRE', key, ttl(deadline(record))) end

-- Returns whether an unsigned decimal of any length is less than another.
local function is_less(a, b)
  if #a ~= #b then return #a < #b end
  return a < b
end

-- Calls a command with many arguments. Lua can only pass a few thousand at a time.
local function call_with(command, key, all)
  for n = 1, #all, 1000 do
    redis.call(command, key, unpack(all, n, math.min(n + 999, #all)))
  end
end

local function text(it) return struct.pack('>Hc0', #it, it) end

-- Formats a list for an answer.
local function packed_list(list)
  local parts = {struct.pack('>I4', #list)}
  for n, item in ipairs(list) do parts[n + 1] = text(item) end
  return table.concat(parts)
end
