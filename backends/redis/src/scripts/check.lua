-- Makes each call that scripts make once, on a separate key. Answers the calls that fail, with
-- their errors.
--
-- KEYS: a record that does not exist.

local failures, n = {}, 1
while ARGV[n] do
  local call = {}
  for m = 1, tonumber(ARGV[n]) do call[m] = ARGV[n + m] end
  n = n + #call + 1
  local answer = redis.pcall(unpack(call))
  if type(answer) == 'table' and answer.err then
    failures[#failures + 1] = call[1]
    failures[#failures + 1] = answer.err
  end
end
return failures
