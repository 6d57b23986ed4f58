-- Stores a new record, unless its id is taken.
--
-- KEYS: as for a patch.

local space, id, now, is_cluster, margin = take(), take(), take(), take() == '1', take()
local only_asks, fields, secret, idle, absolute, version =
  take() == '1', take_all(), take(), take(), take(), take()
local login = {principal = take()}
if login.principal ~= '' then
  login.at, login.absolute, login.cap, login.epoch = take(), absolute, take(), take()
  login.ticket = take()
end

local there, is_corrupt = read(KEYS[1])
if is_corrupt then return {'exists'} end
if there and is_live(there, now) then
  if there.secret == secret then return {'unchanged', there.version} end
  return {'exists'}
end
if only_asks then return {'fine'} end
if login.principal ~= '' then
  if is_cluster then
    local mark = redis.call('HGET', KEYS[1], 'x' .. login.ticket)
    if mark == 'again' then return {'again'} end
    if mark == 'ended' then return {'applied', version, {}, {id}, '', ''} end
  elseif is_below_floor(KEYS[2], login.epoch) then
    return {'floor'}
  end
end

if there then redis.call('DEL', KEYS[1]) end
write(KEYS[1], fields)
keep_for({key = KEYS[1], idle = idle, absolute = absolute}, now, margin)
local ended = {}
if login.principal ~= '' and not is_cluster then
  ended = admit(KEYS[2], space, id, login.principal, login, now, margin)
end
return {'applied', version, {}, ended, '', ''}
