-- Publishes a message. Unlike a plain PUBLISH, a script only runs on a server that accepts writes,
-- so a former primary refuses it.
--
-- KEYS: a name, which is not used.

return redis.call('PUBLISH', ARGV[1], ARGV[2])
