-- In a cluster, where an index and the records that it lists are in different slots: lists a login
-- before it is made, so that the index is never behind.
--
-- An entry is a record's id and the login's ticket, for each login has an entry of its own. Its value
-- is the time of the authentication, the absolute deadline, and '!' once another login has taken its
-- place under the cap: it counts no more, and stays until its record has ended.
--
-- KEYS: the index.

local now, margin, id, ticket, login_at, absolute = take(), take(), take(), take(), take(), take()
local cap, epoch, has_looked, dead = tonumber(take()), take(), take() == '1', take_all()

if is_below_floor(KEYS[1], epoch) then return {'floor'} end
if #dead > 0 then redis.call('HDEL', KEYS[1], unpack(dead)) end

local function split(value)
  local login_at, absolute, mark = string.match(value, '^(%-?%d+):(%-?%d+)(!?)$')
  return tonumber(login_at), tonumber(absolute), mark ~= '!'
end

-- What is past its absolute deadline has ended, whatever became of it.
local function drop_past(entries)
  for n = 1, #entries, 2 do
    local _, absolute = split(entries[n + 1])
    if absolute and absolute <= tonumber(now) then redis.call('HDEL', KEYS[1], entries[n]) end
  end
end
drop_past(redis.call('HRANDFIELD', KEYS[1], 4, 'WITHVALUES'))

-- What counts against the cap, the oldest authentication first; a record with several logins under
-- way counts once, by the latest. Whose place is taken already is a victim of this login too: the one
-- that took it may never have ended it.
local victims = {}
local function counted()
  drop_past(redis.call('HGETALL', KEYS[1]))
  local entries, by_id, sessions = redis.call('HGETALL', KEYS[1]), {}, {}
  for n = 1, #entries, 2 do
    local other = string.sub(entries[n], 1, 32)
    local counts_at, _, is_counted = split(entries[n + 1])
    if entries[n] == 'floor' or other == id then
      -- No session, or this one.
    elseif not is_counted then
      victims[#victims + 1] = entries[n]
    else
      local session = by_id[other]
      if not session then
        session = {id = other, at = counts_at, entries = {}}
        by_id[other] = session
        sessions[#sessions + 1] = session
      end
      session.at = math.max(session.at, counts_at)
      session.entries[#session.entries + 1] = entries[n]
    end
  end
  table.sort(sessions, function(a, b)
    if a.at ~= b.at then return a.at < b.at end
    return a.id < b.id
  end)
  return sessions
end

if size(KEYS[1]) >= cap then
  local sessions = counted()
  local over = #sessions + 1 - cap
  -- The caller looks first who has ended, and comes again.
  if over > 0 and not has_looked then return {'full', redis.call('HGETALL', KEYS[1])} end
  for n = 1, math.min(over, #sessions) do
    for _, entry in ipairs(sessions[n].entries) do
      redis.call('HSET', KEYS[1], entry, redis.call('HGET', KEYS[1], entry) .. '!')
      victims[#victims + 1] = entry
    end
  end
end

local earlier_logins = {}
for _, entry in ipairs(redis.call('HKEYS', KEYS[1])) do
  local is_other = entry ~= id .. ticket and string.sub(entry, 1, 32) == id
  if is_other then earlier_logins[#earlier_logins + 1] = entry end
end
redis.call('HSET', KEYS[1], id .. ticket, login_at .. ':' .. absolute)
keep(KEYS[1], ttl(absolute, now, margin))
return {'listed', victims, earlier_logins}
