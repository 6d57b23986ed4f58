-- The sessions of a principal: a sorted set, so that neither a login nor the cap takes time that grows
-- with their number. It may list what has ended, and is never behind.
--
-- | member | score |
-- | --- | --- |
-- | an entry: a record's id, and in a cluster the ticket of its login | when the user proved who they are |
-- | `D` and an entry | PARTS, and the earliest time at which that session may have expired |
-- | `V` and an entry | 2 PARTS: another login took its place under the cap, and it has to end |
-- | `F` and a number | 3 PARTS: the floor under the principal's logins |

local PARTS = 1e15
local LISTED = {'-inf', string.format('%.0f', PARTS / 2)}

local function floor_of(index)
  local member = redis.call('ZRANGEBYSCORE', index, 3 * PARTS, '+inf')[1]
  return member and string.sub(member, 2)
end

local function is_below_floor(index, epoch)
  local floor = floor_of(index)
  return floor and (epoch == '' or is_less(epoch, floor))
end

local function raise_floor(index, epoch, kept)
  if epoch == '' then return end
  local floor = floor_of(index)
  if not floor or is_less(floor, epoch) then
    redis.call('ZADD', index, 3 * PARTS, 'F' .. epoch)
    if floor then redis.call('ZREM', index, 'F' .. floor) end
  end
  keep(index, kept)
end

-- Returns the number of entries of an index, or nil if it is of format 1, a hash.
local function size_of(index)
  local size = redis.pcall('ZCOUNT', index, LISTED[1], LISTED[2])
  if type(size) ~= 'table' then return size end
  if string.find(size.err, 'WRONGTYPE', 1, true) then return nil end
  error(size)
end

local function list_entry(index, entry, authenticated, ends)
  redis.call('ZADD', index, authenticated, entry, PARTS + ends, 'D' .. entry)
end

local function unlist(index, entry) redis.call('ZREM', index, entry, 'D' .. entry, 'V' .. entry) end

-- Returns entries that may have expired, up to a limit.
local function stale(index, most)
  local members = redis.call('ZRANGEBYSCORE', index, PARTS / 2, PARTS + now, 'LIMIT', 0, most)
  for n, member in ipairs(members) do members[n] = string.sub(member, 2) end
  return members
end

-- Returns the entries with the oldest authentications.
local function oldest(index, most)
  return redis.call('ZRANGEBYSCORE', index, LISTED[1], LISTED[2], 'LIMIT', 0, most)
end

-- Reads the record under a key, if it is live and belongs to the principal.
local function is_theirs(key, principal)
  local record = read(key)
  return record and record.principal == principal and is_live(record) and record
end

-- Reads a listed record, and removes its entry if it has ended or has another principal.
local function look_at(index, key, principal)
  local record, entry = is_theirs(key, principal), id_of(key)
  if record then
    redis.call('ZADD', index, 'XX', PARTS + deadline(record), 'D' .. entry)
    return record
  end
  unlist(index, entry)
end

-- Corrects an entry, and returns whether it was wrong: it may stand for no session any more, or for
-- one that an elevation has authenticated again. An elevation does not update the index.
local function is_elsewhere(index, entry, record)
  if not record then
    unlist(index, entry)
    return true
  end
  if record.authenticated <= tonumber(redis.call('ZSCORE', index, entry)) then return false end
  redis.call('ZADD', index, 'XX', record.authenticated, entry)
  return true
end

-- Ends a session because of the cap.
local function end_at_cap(key, principal)
  local record = KEEPS and read(key)
  redis.call('DEL', key)
  if record then leave_remains(key, record, principal) end
end

-- Makes room for one more session, outside of a cluster. Returns the keys of the records to end. If
-- some are not declared in KEYS, it returns nil and an answer with the entries to declare, and a
-- few more, because other logins of the principal may come before the next attempt. If the cap must
-- not end sessions, the last result is true if there is no room.
local function make_room(index, id, principal, cap, refuses)
  local declared = {}
  for n = 3, #KEYS do declared[id_of(KEYS[n])] = KEYS[n] end
  while true do
    local size = size_of(index)
    if not size then return nil, 'C' end
    local over = size + (redis.call('ZSCORE', index, id) and 0 or 1) - cap
    if over <= 0 then return {} end
    local has_looked, wanted, victims = false, stale(index, 1000), {}
    local is_complete = true
    for _, entry in ipairs(wanted) do
      if declared[entry] then
        look_at(index, declared[entry], principal)
        has_looked = true
      else
        is_complete = false
      end
    end
    if not has_looked and refuses == 0 then
      for _, entry in ipairs(oldest(index, over + 16)) do
        if entry ~= id and #victims < over then
          victims[#victims + 1] = declared[entry]
          if not declared[entry] then
            is_complete = false
          else
            has_looked = is_elsewhere(index, entry, is_theirs(declared[entry], principal)) or has_looked
          end
        end
        if entry ~= id then wanted[#wanted + 1] = entry end
        if not is_complete and #victims == over then break end
      end
    end
    if not has_looked and is_complete then return victims, nil, refuses == 1 end
    if not has_looked then return nil, 'L' .. packed_list(wanted) end
  end
end
