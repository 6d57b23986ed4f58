-- What every script knows of records. A record is one hash: its own fields have one letter, a value is
-- kept under 'v' and its key. All of it are strings and stay strings: Lua's numbers are doubles, so
-- neither a counter nor a version nor an epoch is ever made one. Times in milliseconds fit.

local at = 0

-- The next argument.
local function take()
  at = at + 1
  return ARGV[at]
end

-- Several arguments, which come behind their number.
local function take_all()
  local all = {}
  for n = 1, tonumber(take()) do all[n] = take() end
  return all
end

local function is_time(text)
  return text and string.find(text, '^%-?%d+$') ~= nil
end

local function earlier(a, b)
  if tonumber(a) < tonumber(b) then return a end
  return b
end

-- Whether nothing is kept under a key but marks for logins under way; see finish.lua.
local function holds_marks_only(key)
  for _, field in ipairs(redis.call('HKEYS', key)) do
    if string.sub(field, 1, 1) ~= 'x' then return false end
  end
  return true
end

-- What is kept under a key, without the values; nil if nothing is. The second result says that it is
-- something else than a record.
local function read(key)
  local fields = redis.pcall('HMGET', key, 's', 'n', 'i', 'a', 'k', 'z', 'r', 'u', 'w')
  if fields.err then
    if string.find(fields.err, 'WRONGTYPE', 1, true) then return nil, true end
    error(fields)
  end
  local record = {
    key = key, secret = fields[1], version = fields[2], idle = fields[3], absolute = fields[4],
    keys = fields[5], bytes = fields[6], replaced = fields[7], principal = fields[8],
    ticket = fields[9],
  }
  if not record.secret and holds_marks_only(key) then return nil end
  local is_sound = record.secret and #record.secret == 36 and is_time(record.idle)
    and is_time(record.absolute) and is_time(record.version) and is_time(record.keys)
    and is_time(record.bytes)
  if not is_sound then return nil, true end
  return record
end

local function is_live(record, now)
  return tonumber(now) < tonumber(earlier(record.idle, record.absolute))
end

-- What proofs are worth: 'right', 'superseded' or 'wrong'; no proof is right. The hashes are of secrets
-- with 256 random bits: how long a comparison takes tells nothing that helps to find one, since who
-- does not have the secret cannot choose how its hash begins.
local function verify(record, proofs, now)
  if #proofs == 0 then return 'right' end
  local before = record.replaced and string.sub(record.replaced, 1, 36)
  local is_kept = before and tonumber(now) < tonumber(string.sub(record.replaced, 37))
  local verdict = 'wrong'
  for _, proof in ipairs(proofs) do
    if proof == record.secret then return 'right' end
    if is_kept and proof == before then verdict = 'superseded' end
  end
  return verdict
end

-- The time to live: relative, so that the clocks of servers count for nothing, and with a margin: it
-- gives memory back and ends no session. A deadline is the application's.
local function ttl(deadline, now, margin)
  return string.format('%.0f', math.max(tonumber(deadline) - tonumber(now), 0) + tonumber(margin))
end

local function keep(key, wanted)
  if redis.call('PTTL', key) < tonumber(wanted) then redis.call('PEXPIRE', key, wanted) end
end

local function keep_for(record, now, margin)
  redis.call('PEXPIRE', record.key, ttl(earlier(record.idle, record.absolute), now, margin))
end

-- Whether a decimal of any length, without a sign, is less than another.
local function is_less(a, b)
  if #a ~= #b then return #a < #b end
  return a < b
end

-- Writes fields and values that alternate; Lua passes on a few thousand at a time.
local function write(key, pairs_)
  for n = 1, #pairs_, 1000 do
    redis.call('HSET', key, unpack(pairs_, n, math.min(n + 999, #pairs_)))
  end
end
