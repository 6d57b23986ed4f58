-- Nodes of release 0.1 cannot go on beside later ones: they know of no sign-ins. All of their statements
-- name what is gone from here on, and fail.
DROP FUNCTION IF EXISTS {create};
DROP FUNCTION IF EXISTS {patch};
DROP FUNCTION IF EXISTS {end_all};
DROP FUNCTION IF EXISTS {admit};
DROP FUNCTION IF EXISTS {lock_excess};
DROP FUNCTION IF EXISTS {end_excess};

ALTER TABLE {sessions} RENAME COLUMN idle_deadline TO idle_end;
ALTER TABLE {sessions} RENAME COLUMN absolute_deadline TO absolute_end;
ALTER TABLE {sessions} RENAME COLUMN bytes TO size;
ALTER TABLE {sessions} DROP CONSTRAINT {hash_check};
ALTER TABLE {sessions} DROP CONSTRAINT {replaced_check};
ALTER TABLE {sessions}
    -- A record of a later format than a release knows is not changed by it.
    ADD COLUMN format integer NOT NULL DEFAULT 1,
    -- How often a login changed whose session it is.
    ADD COLUMN sign_in bigint NOT NULL DEFAULT 0 CHECK (sign_in >= 0),
    -- What the session says of itself; null for nothing.
    ADD COLUMN facts bytea,
    -- The fingerprint of the hash key, 4 bytes, the hash of the secret, 32 bytes, and the key's name. The
    -- first 36 are compared.
    ADD CONSTRAINT {hash_check} CHECK (octet_length(hash) BETWEEN 36 AND 52),
    ADD CONSTRAINT {replaced_check} CHECK (octet_length(replaced) BETWEEN 36 AND 52);

-- The oldest session of a principal is the first one in here.
DROP INDEX {schema}.{sessions_principal};
CREATE INDEX {sessions_principal} ON {sessions} (realm, principal, authenticated NULLS FIRST, id)
    WHERE principal IS NOT NULL;

-- A principal is there while it has sessions or a floor.
ALTER TABLE {principals}
    DROP COLUMN hour,
    -- How many sessions there are in the table.
    ADD COLUMN sessions integer NOT NULL DEFAULT 0,
    -- Before this time none of them expires; null where that is not known.
    ADD COLUMN expires bigint;
INSERT INTO {principals} AS p (realm, id, sessions)
SELECT s.realm, s.principal, count(*) FROM {sessions} s WHERE s.principal IS NOT NULL GROUP BY 1, 2
ON CONFLICT (realm, id) DO UPDATE SET sessions = EXCLUDED.sessions;
DELETE FROM {principals} WHERE sessions = 0 AND floor IS NULL;
CREATE INDEX {principals_floor} ON {principals} (floor_until) WHERE floor_until IS NOT NULL;

-- What happened, while somebody listens. Not logged: where the server crashes, every listener starts again.
CREATE UNLOGGED TABLE {changes} (
    -- In the order of each record's changes, because it is taken under the record's lock.
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- By which a listener tells what it has not seen: transactions do not commit in the order of numbers.
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    -- When this may be forgotten, by the server's clock.
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    what text NOT NULL,
    id uuid NOT NULL,
    version bigint
);
CREATE INDEX {changes_xid} ON {changes} (xid);
CREATE UNLOGGED TABLE {listeners} (
    id uuid PRIMARY KEY,
    until timestamptz NOT NULL
) WITH (fillfactor = 50);

-- Sessions that ended without a request, until they are reported. In the transaction that ends them, so that
-- none is lost.
CREATE TABLE {endings} (
    id uuid PRIMARY KEY,
    realm text COLLATE "C",
    principal text COLLATE "C",
    reason text NOT NULL,
    -- When it ended, by the application's clock.
    at bigint NOT NULL,
    -- From when on it can be claimed, by the application's clock.
    free_at bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 70);
CREATE INDEX {endings_free} ON {endings} (free_at, at);
CREATE INDEX {endings_at} ON {endings} (at);
-- Until when they are kept, by the server's clock. At most one row.
CREATE TABLE {keepers} (
    id integer CHECK (id = 1),
    until timestamptz NOT NULL,
    CONSTRAINT {keepers_key} PRIMARY KEY (id)
);

-- The new tables are for those who may use the old one.
DO $$
DECLARE
    granted record;
BEGIN
    FOR granted IN
        SELECT a.grantee::regrole::text AS role, a.privilege_type AS privilege
        FROM pg_class c, aclexplode(c.relacl) a
        WHERE c.oid = '{sessions}'::regclass AND a.grantee <> 0 AND a.grantee <> c.relowner
    LOOP
        EXECUTE 'GRANT ' || granted.privilege || ' ON {changes}, {listeners}, {endings}, {keepers} TO ' || granted.role;
    END LOOP;
END
$$;
