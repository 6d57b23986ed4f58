-- Applies a patch to a live record in one step: liveness, proof, expectations, fence, limits, in this
-- order, and nothing is written unless all of them pass.
--
-- KEYS: the record; for a login the index of the principal, unless that is elsewhere, in a cluster.

local space, id, now, is_cluster, margin = take(), take(), take(), take() == '1', take()
local only_asks, clears = take() == '1', take() == '1'
local proofs, expected, fence = take_all(), take_all(), take()
local ops, max_keys, max_bytes = take_all(), take(), take()
local idle, owner = take(), take()
local rotation = take()
local login = {}
if rotation ~= '' then
  login.until_, login.at, login.absolute = take(), take(), take()
  login.principal, login.cap, login.epoch, login.ticket = take(), take(), take(), take()
end

local record, is_corrupt = read(KEYS[1])
if is_corrupt then return {'corrupt'} end
if not record or not is_live(record, now) then return {'gone'} end
if rotation == record.secret then return {'unchanged', record.version} end
local verdict = verify(record, proofs, now)
if verdict == 'wrong' then return {'gone'} end
if verdict == 'superseded' then return {'superseded'} end

for n = 1, #expected, 3 do
  local value = redis.call('HGET', KEYS[1], 'v' .. expected[n])
  local wanted = expected[n + 1] == '1' and expected[n + 2]
  if value ~= wanted then return {'conflict'} end
end
if fence ~= '' and fence ~= (redis.call('HGET', KEYS[1], 'f') or '0') then return {'conflict'} end
if only_asks then return {'fine'} end

-- Counters first, with the server's own exact addition; undone if the patch is refused after all,
-- which nobody can see in between.
local undo, counters = {}, {}
local function undone(...)
  for _, back in ipairs(undo) do
    if back.value then
      redis.call('HSET', KEYS[1], back.field, back.value)
    else
      redis.call('HDEL', KEYS[1], back.field)
    end
  end
  return {...}
end

local function add(key, by)
  local field = 'v' .. key
  local value = redis.call('HGET', KEYS[1], field)
  undo[#undo + 1] = {field = field, value = value}
  -- JSON allows white space around an integer, Redis does not.
  local plain = value and string.match(value, '^[ \t\n\r]*(%-?%d+)[ \t\n\r]*$')
  if clears then
    redis.call('HDEL', KEYS[1], field)
  elseif value and not plain then
    return 'integer'
  elseif plain ~= value then
    redis.call('HSET', KEYS[1], field, plain)
  end
  local sum = redis.pcall('HINCRBY', KEYS[1], field, by)
  if type(sum) == 'table' then
    if string.find(sum.err, 'overflow', 1, true) then return 'overflow' end
    if string.find(sum.err, 'not an integer', 1, true) then return 'integer' end
    error(sum)
  end
  -- The reply has become a double; the field is exact.
  counters[#counters + 1] = key
  counters[#counters + 1] = redis.call('HGET', KEYS[1], field)
end

local keys, bytes = tonumber(record.keys), tonumber(record.bytes)
if clears then keys, bytes = 0, 0 end
for n = 1, #ops, 3 do
  local op, key, value = ops[n], ops[n + 1], ops[n + 2]
  local field = 'v' .. key
  local had = not clears and redis.call('HEXISTS', KEYS[1], field) == 1
  if had then
    keys, bytes = keys - 1, bytes - #key - redis.call('HSTRLEN', KEYS[1], field)
  end
  if op == 'add' then
    local failure = add(key, value)
    if failure then return undone(failure, key) end
    value = counters[#counters]
  end
  if op ~= 'remove' then keys, bytes = keys + 1, bytes + #key + #value end
end
if keys > tonumber(max_keys) then return undone('keys', keys, tonumber(max_keys)) end
if bytes > tonumber(max_bytes) then return undone('bytes', bytes, tonumber(max_bytes)) end

if login.principal and login.principal ~= '' then
  if is_cluster then
    local mark = redis.call('HGET', KEYS[1], 'x' .. login.ticket)
    if mark == 'again' then return undone('again') end
    if mark == 'ended' then
      redis.call('DEL', KEYS[1])
      redis.call('PUBLISH', space .. ':c', 'e' .. id)
      return {'applied', record.version, {}, {id}, record.principal or '', record.ticket or ''}
    end
  elseif is_below_floor(KEYS[2], login.epoch) then
    return undone('floor')
  end
end

if clears then
  local added = {}
  for n = 1, #counters, 2 do added['v' .. counters[n]] = true end
  for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
    if string.sub(field, 1, 1) == 'v' and not added[field] then
      redis.call('HDEL', KEYS[1], field)
    end
  end
end
local set = {}
local function put(field, value)
  set[#set + 1] = field
  set[#set + 1] = value
end
for n = 1, #ops, 3 do
  if ops[n] == 'put' then put('v' .. ops[n + 1], ops[n + 2]) end
  if ops[n] == 'remove' then redis.call('HDEL', KEYS[1], 'v' .. ops[n + 1]) end
end
if #ops > 0 or clears then
  put('k', string.format('%.0f', keys))
  put('z', string.format('%.0f', bytes))
end

local left
if rotation ~= '' then
  put('s', rotation)
  put('r', record.secret .. login.until_)
  if login.at ~= '' then
    record.absolute = login.absolute
    put('t', login.at)
    put('a', login.absolute)
    if login.principal ~= '' then
      left = record.principal ~= login.principal and record.principal
      put('u', login.principal)
      if is_cluster then put('w', login.ticket) end
    end
  end
elseif record.replaced and tonumber(now) >= tonumber(string.sub(record.replaced, 37)) then
  redis.call('HDEL', KEYS[1], 'r')
end
if owner ~= '' then
  put('o', owner)
  redis.call('HINCRBY', KEYS[1], 'f', '1')
end
if idle ~= '' then
  if tonumber(idle) > tonumber(record.idle) then record.idle = idle end
  record.idle = earlier(record.idle, record.absolute)
  put('i', record.idle)
end
write(KEYS[1], set)
if idle ~= '' or login.at and login.at ~= '' then keep_for(record, now, margin) end

local version = record.version
if clears or #ops > 0 or rotation ~= '' or owner ~= '' then
  redis.call('HINCRBY', KEYS[1], 'n', '1')
  version = redis.call('HGET', KEYS[1], 'n')
  redis.call('PUBLISH', space .. ':c', 'p' .. id .. version)
end

local ended = {}
if login.principal and login.principal ~= '' and not is_cluster then
  if left then unlist(space, left, id) end
  ended = admit(KEYS[2], space, id, login.principal, login, now, margin)
end
return {'applied', version, counters, ended, left or '', record.ticket or ''}
