-- Publishes on a server that takes writes: one that was a primary is told apart.
--
-- KEYS: a name, which is not used.

return redis.call('PUBLISH', ARGV[1], ARGV[2])
