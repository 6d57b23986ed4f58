-- In a cluster, an index and its records are in different slots. This script adds a login to the
-- index before its record is changed, so that the index never lacks a session. Each login has an
-- entry of its own: the record's id and the login's ticket. A login over the cap displaces the
-- oldest entries here.
--
-- KEYS: the index.

local entry, own, authenticated, absolute, ends, cap, refuses, epoch, has_looked =
  take('>Bc0Bc0i8i8i8I4BBc0B')
local dead, alive = {}, {}
for n = 1, take('>I4') do dead[n] = take('>Bc0') end
for n = 1, take('>I4') do alive[n] = {take('>Bc0i8')} end

if not size_of(KEYS[1]) then return 'C' end
if is_below_floor(KEYS[1], epoch) then return 'F' end
for _, gone in ipairs(dead) do unlist(KEYS[1], gone) end
for _, one in ipairs(alive) do
  redis.call('ZADD', KEYS[1], 'XX', PARTS + one[2], 'D' .. one[1])
end

-- An existing entry of the same record is replaced by this one.
local gives_way = own ~= '' and redis.call('ZSCORE', KEYS[1], own)
local over = size_of(KEYS[1]) + (gives_way and 0 or 1) - cap
if over > 0 then
  local unsure = stale(KEYS[1], 1000)
  -- The caller first checks which of them have ended, and whether this login would be applied.
  if has_looked == 0 or #unsure > 0 then
    local parts = {struct.pack('>I4', #unsure)}
    for n, one in ipairs(unsure) do
      local score = tonumber(redis.call('ZSCORE', KEYS[1], one) or 0)
      parts[n + 1] = text(one) .. struct.pack('>i8', score)
    end
    return 'L' .. table.concat(parts)
  end
  if refuses == 1 then return 'R' end
  for _, other in ipairs(oldest(KEYS[1], over + 1)) do
    if other ~= own and over > 0 then
      redis.call('ZREM', KEYS[1], other, 'D' .. other)
      redis.call('ZADD', KEYS[1], 2 * PARTS, 'V' .. other)
      over = over - 1
    end
  end
end

-- A session that another login displaced is a victim of this login too: that login may have failed
-- before it ended the session.
local victims = {}
if over >= 0 and has_looked == 1 then
  for n, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], 1.5 * PARTS, 2.5 * PARTS)) do
    victims[n] = string.sub(member, 2)
  end
end
list_entry(KEYS[1], entry, authenticated, ends)
keep(KEYS[1], ttl(absolute))
return 'l' .. packed_list(victims) .. packed_list(stale(KEYS[1], 8))
