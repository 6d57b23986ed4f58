-- The sessions of a principal, where one step can change all keys: a hash from the id of a record to
-- the time at which its user proved who they are. It may list what has ended, and is never behind.
-- The floor under the principal's logins is a field of it, so that every script has one key.

local function is_below_floor(index, epoch)
  local floor = redis.call('HGET', index, 'floor')
  return floor and (epoch == '' or is_less(epoch, floor))
end

local function raise_floor(index, epoch, kept)
  if epoch == '' then return end
  local floor = redis.call('HGET', index, 'floor')
  if not floor or is_less(floor, epoch) then redis.call('HSET', index, 'floor', epoch) end
  keep(index, kept)
end

-- How many entries an index has.
local function size(index)
  return redis.call('HLEN', index) - redis.call('HEXISTS', index, 'floor')
end

-- Whether a listed record is the principal's and lives.
local function is_theirs(space, id, principal, now)
  local fields = redis.pcall('HMGET', space .. ':r:{' .. id .. '}', 'u', 'i', 'a')
  return not fields.err and fields[1] == principal and is_time(fields[2]) and is_time(fields[3])
    and tonumber(now) < tonumber(earlier(fields[2], fields[3]))
end

local function finish(space, id)
  redis.call('DEL', space .. ':r:{' .. id .. '}')
  redis.call('PUBLISH', space .. ':c', 'e' .. id)
end

-- The listed sessions that live, the oldest authentication first. The others are taken off the list.
local function theirs(index, space, principal, now)
  local listed, live = redis.call('HGETALL', index), {}
  for n = 1, #listed, 2 do
    if listed[n] == 'floor' then
      -- No session.
    elseif is_theirs(space, listed[n], principal, now) then
      live[#live + 1] = {id = listed[n], at = tonumber(listed[n + 1])}
    else
      redis.call('HDEL', index, listed[n])
    end
  end
  table.sort(live, function(a, b)
    if a.at ~= b.at then return a.at < b.at end
    return a.id < b.id
  end)
  return live
end

-- Lists a session, and ends the oldest others over the cap. A few that are listed are looked at every
-- time, so that what has ended does not pile up where nobody reads the list.
local function admit(index, space, id, principal, login, now, margin)
  redis.call('HSET', index, id, login.at)
  keep(index, ttl(login.absolute, now, margin))
  for _, some in ipairs(redis.call('HRANDFIELD', index, 4)) do
    if some ~= id and some ~= 'floor' and not is_theirs(space, some, principal, now) then
      redis.call('HDEL', index, some)
    end
  end
  local ended, cap = {}, tonumber(login.cap)
  if size(index) <= cap then return ended end
  local live = theirs(index, space, principal, now)
  local over = #live - cap
  for _, session in ipairs(live) do
    if over > 0 and session.id ~= id then
      finish(space, session.id)
      redis.call('HDEL', index, session.id)
      ended[#ended + 1] = session.id
      over = over - 1
    end
  end
  return ended
end

local function unlist(space, principal, id)
  redis.call('HDEL', space .. ':p:{' .. principal .. '}', id)
end
