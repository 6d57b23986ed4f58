-- As release 0.1 made them. Its functions are not here: 0002.sql takes them out.
--
-- Times are milliseconds since 1970, by the application's clock. The server's is never asked.
CREATE TABLE {sessions} (
    id uuid PRIMARY KEY,
    -- The name of the hash key, 4 bytes, and the hash of the secret, 32 bytes.
    hash bytea NOT NULL CHECK (octet_length(hash) = 36),
    replaced bytea CHECK (octet_length(replaced) = 36),
    replaced_until bigint,
    version bigint NOT NULL CHECK (version >= 0),
    -- A key to the text of its JSON: kept byte for byte, with any escape that JSON has.
    values jsonb NOT NULL,
    -- How many keys there are, and the bytes of all keys and values.
    keys integer NOT NULL,
    bytes integer NOT NULL,
    created bigint NOT NULL,
    authenticated bigint,
    idle_deadline bigint NOT NULL,
    absolute_deadline bigint NOT NULL,
    -- The hour of the earlier deadline. A touch within the hour changes no index, and stays HOT.
    hour integer NOT NULL,
    realm text COLLATE "C",
    principal text COLLATE "C",
    owner text COLLATE "C",
    fence bigint NOT NULL CHECK (fence >= 0),
    CHECK ((replaced IS NULL) = (replaced_until IS NULL)),
    CHECK ((realm IS NULL) = (principal IS NULL))
) WITH (fillfactor = 70);

CREATE INDEX {sessions_hour} ON {sessions} (hour);
CREATE INDEX {sessions_principal} ON {sessions} (realm, principal) WHERE principal IS NOT NULL;

-- The lock under which sessions of a principal are added and ended together, and the floor below which
-- nobody signs in (a u64 less 2^63, so that it orders as one).
CREATE TABLE {principals} (
    realm text COLLATE "C",
    id text COLLATE "C",
    floor bigint,
    floor_until bigint,
    -- From this hour on the row is of no use.
    hour integer NOT NULL,
    PRIMARY KEY (realm, id)
) WITH (fillfactor = 70);

CREATE INDEX {principals_hour} ON {principals} (hour);
